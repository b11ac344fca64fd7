"""Training of SAEs (stages `train`, `baselines` and `controls`): one pass over the data, any number of SAEs.

Each step draws one source model, encodes its tokens, reconstructs every model and steps AdamW (paper sec. 3). The
result is a function of the activations, the params and the seed: an interrupted run that goes on from a checkpoint
ends in the same bits.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from usae.checkpoints import Checkpoints
from usae.engine import Engine, Schedule, Update
from usae.errors import Interrupted, UserError
from usae.initialisation import new_sae
from usae.interrupts import Stop, graceful
from usae.manifests import Manifest
from usae.params import Pairs, TrainParams
from usae.progress import counter
from usae.ranks import Ranks
from usae.sae import UniversalSAE, sparse_decode
from usae.sampling import Batch, Loader, PairedActivations, Plan, Resident, shuffled_pairs
from usae.tracker import Tracker
from usae.training_log import TrainingLog

SOURCES = 13  # stream of the seed that draws the source of a step
LOOK_EVERY = 20  # steps between two looks at the numbers, which a GPU then has to hand over
DIVERGED = 5.0  # times the lowest loss so far, averaged between two looks: no longer training


@dataclass(frozen=True)
class Variant:
    """What may differ between SAEs that are trained side by side on the same batches."""

    k: int
    seed: int  # of the first weights and of the sources; the order of the images is common
    pairs: Pairs = "matched"
    models: tuple[str, ...] | None = None  # which of the opened ones, in this order; None: all


@dataclass(frozen=True)
class Running:
    """How a run is carried out: nothing here changes its result, up to rounding on another device."""

    device: torch.device
    resident: Resident = "auto"
    checkpoints: Checkpoints | None = None
    curve: Path | None = None  # rewritten while the first SAE trains
    track: Tracker | None = None


@dataclass(frozen=True)
class Trained:
    """sae: in eval mode. log: one row a step (table `training`)."""

    sae: UniversalSAE
    log: pd.DataFrame


def train(
    variants: Mapping[str, Variant],
    manifests: Mapping[str, Manifest],
    data: PairedActivations,
    params: TrainParams,
    running: Running,
    *,
    seed: int,
    steps: int | None = None,
) -> dict[str, Trained]:
    """Train an SAE per variant on its models, among those of `manifests`; `data` has their stores in that order.

    seed: of the order of the images. steps: stop there (None: all epochs); the schedule then ends there too.

    Raises:
        UserError: a batch is larger than the set, a loss is no longer finite or has run away.
        Interrupted: by SIGTERM or SIGINT; with checkpoints, the same call goes on where this one stopped.
    """
    ranks = Ranks.current()
    plan = Plan(params.batch_images, seed, params.window_images, params.shuffle_tokens)
    loader = Loader(data, plan, running.device, running.resident, (ranks.rank, ranks.size))
    steps = params.epochs * loader.steps_per_epoch if steps is None else steps
    warmup = round(params.warmup_epochs * loader.steps_per_epoch)
    schedule = Schedule(params.learning_rate, params.final_learning_rate, warmup, steps)
    trainees = {}
    for number, (name, variant) in enumerate(variants.items()):
        places, chosen = _chosen(variant, manifests)
        own = data.select(places)
        sae = new_sae(chosen, own, params, k=variant.k, seed=variant.seed, pairs=variant.pairs)
        log = TrainingLog(running.curve, track=running.track) if number == 0 and ranks.rank == 0 else TrainingLog()
        trainees[name] = Trainee(variant, places, Engine(sae.to(running.device), params, schedule, ranks), log)
    _run(Trainees(trainees, ranks, running.checkpoints), loader, steps)
    return {name: Trained(trainee.engine.sae.eval(), trainee.log.frame()) for name, trainee in trainees.items()}


class Trainee:
    """One SAE in training, its log, and the numbers of the steps since the last look."""

    def __init__(self, variant: Variant, places: list[int], engine: Engine, log: TrainingLog) -> None:
        self.variant, self.places, self.engine, self.log = variant, places, engine, log
        self.unread: list[tuple[int, int, str, float, Tensor]] = []  # step, epoch, source, rate, numbers
        self.lowest = math.inf
        self.shown = (math.nan, math.nan)  # loss and cross R2 of the last look

    def step(self, batch: Batch) -> None:
        """One update; a batch of one image has no one to be shuffled with and is left out."""
        batch = replace(batch, activations=[batch.activations[place] for place in self.places])
        rows = batch.activations if self.variant.pairs == "matched" else shuffled_pairs(batch, self.variant.seed)
        if rows is None:
            return
        sae = self.engine.sae
        source = draw_source(self.variant.seed, batch.step, sae.models)
        standardised = [sae.part(model).standardise(raw) for model, raw in zip(sae.models, rows, strict=True)]
        update = self.engine.step(source, standardised)
        scores = _scores(self.engine, source, standardised, update) if batch.step % LOOK_EVERY == 0 else None
        self.unread.append((batch.step, batch.epoch, source, update.rate, _numbers(update, scores)))

    def look(self) -> None:
        """Log the steps since the last look.

        Raises:
            UserError: the loss is not finite, or has run away.
        """
        if not self.unread:
            return
        numbers = torch.stack([unread[-1] for unread in self.unread]).double().cpu().tolist()
        for (step, epoch, source, rate, _), (loss, reconstruction, norm, r2_self, r2_cross) in zip(
            self.unread, numbers, strict=True
        ):
            _check_finite(loss, step, epoch, source)
            self.log.append(
                {
                    "step": step,
                    "epoch": epoch,
                    "source": source,
                    "loss": loss,
                    "reconstruction": reconstruction,
                    "auxiliary": loss - reconstruction,
                    "learning_rate": rate,
                    "gradient_norm": norm,
                    "r2_self": r2_self,
                    "r2_cross": r2_cross,
                }
            )
        self.shown = (float(np.mean([row[0] for row in numbers])), numbers[0][-1])
        self._check_converging(self.shown[0])
        self.unread.clear()

    def state(self) -> dict[str, Any]:
        """Everything that the next steps and the log depend on."""
        return {"engine": self.engine.state(), "log": self.log.state(), "lowest": self.lowest}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self.engine.restore(state["engine"])
        self.log.restore(state["log"])
        self.lowest = state["lowest"]

    def _check_converging(self, loss: float) -> None:
        self.lowest = min(self.lowest, loss)
        if loss > DIVERGED * self.lowest:
            raise UserError(
                f"Training diverges: the loss was {self.lowest:.4g} and is {loss:.4g}, more than {DIVERGED:g} "
                f"times as much, at step {self.unread[-1][0]}. Lower `train.learning_rate`, or raise "
                "`train.warmup_epochs`."
            )


@dataclass(frozen=True)
class Trainees:
    """SAEs that are trained side by side, and where their common state is kept."""

    members: dict[str, Trainee]
    ranks: Ranks
    checkpoints: Checkpoints | None

    def restore(self) -> int:
        """Go on from the last checkpoint, if there is one; returns the step to do next."""
        state = self.checkpoints.load() if self.checkpoints else None
        if state is None:
            return 0
        for name, member in self.members.items():
            member.restore(state["members"][name])
        return int(state["step"])

    def look(self) -> None:
        """Log what was done since the last look (see `Trainee.look`)."""
        for member in self.members.values():
            member.look()

    def save(self, step: int) -> None:
        """Keep the state before `step`, once its numbers have been found good."""
        self.look()
        if self.checkpoints and self.ranks.rank == 0:
            members = {name: member.state() for name, member in self.members.items()}
            self.checkpoints.save({"step": step, "members": members})

    def due(self, stop: Stop, step: int) -> bool:
        """Whether to save now; several processes agree on it, at every look only."""
        wanted = stop.requested or (self.checkpoints is not None and self.checkpoints.due())
        if self.ranks.size == 1 or step % LOOK_EVERY:
            return wanted and self.ranks.size == 1
        return bool(self.ranks.sum(torch.tensor(float(wanted), device=self._device)) > 0)

    @property
    def _device(self) -> torch.device:
        return next(next(iter(self.members.values())).engine.sae.parameters()).device


def draw_source(seed: int, step: int, models: tuple[str, ...]) -> str:
    """The model that is encoded in a step: uniform, and a function of the seed and the step alone."""
    return models[int(np.random.default_rng([seed, step, SOURCES]).integers(len(models)))]


def independent_steps(params: TrainParams, images: int, models: int) -> int:
    """Steps of a single-model SAE such that its dictionary is updated as often as in the universal SAE."""
    steps = params.epochs * math.ceil(images / params.batch_images)
    return steps if params.update == "all" else math.ceil(steps / models)


def _chosen(variant: Variant, manifests: Mapping[str, Manifest]) -> tuple[list[int], dict[str, Manifest]]:
    """The places among all models of those that a variant is about, and their manifests."""
    models, everyone = variant.models or tuple(manifests), list(manifests)
    return [everyone.index(model) for model in models], {model: manifests[model] for model in models}


def _run(trainees: Trainees, loader: Loader, steps: int) -> None:
    """All steps that are left, with a checkpoint now and then."""
    done = trainees.restore()
    with counter(steps, description="train", unit="step", done=done) as bar, graceful() as stop:
        for batch in loader.batches(done, steps):
            for member in trainees.members.values():
                member.step(batch)
            done = batch.step + 1
            bar.update()
            if done % LOOK_EVERY == 0:
                trainees.look()
                _show(bar, trainees, loader)
            if trainees.due(stop, done):
                trainees.save(done)
                if stop.requested:
                    raise Interrupted(done, stop.signal)
        trainees.look()
        _show(bar, trainees, loader)


def _show(bar: "tqdm[None]", trainees: Trainees, loader: Loader) -> None:
    """Loss, cross R2, tokens per second and the share of time spent waiting for data, beside the bar."""
    if bar.disable:
        return
    loss, r2 = next(iter(trainees.members.values())).shown
    seconds = max(bar.format_dict["elapsed"], 1e-3)
    batch_tokens = loader.sampler.plan.batch_images * loader.data.tokens
    rate = (bar.n - bar.initial) * batch_tokens / seconds
    bar.set_postfix_str(
        f"loss {loss:.3f}, cross R2 {r2:.2f}, {rate:,.0f} tokens/s, {loader.waited / seconds:.0%} waiting",
        refresh=False,
    )


def _numbers(update: Update, scores: Tensor | None) -> Tensor:
    """What `Trainee.look` reads, on the device still: loss, reconstruction, gradient norm, self and cross R2."""
    loss = update.loss
    head = torch.stack([loss.total, loss.reconstruction.sum(), update.gradient_norm])
    return torch.cat([head, head.new_full((2,), math.nan) if scores is None else scores])


def _scores(
    engine: Engine, source: str, activations: list[Float[Tensor, "n _"]], update: Update
) -> Float[Tensor, "2"]:
    """Channel R2 of the step's own reconstructions: of the source, and the mean over the other models."""
    widths = [rows.shape[1] for rows in activations]
    parts = sparse_decode(update.loss.codes, engine.fast_step.wide.rows).split(widths, dim=1)
    r2 = torch.stack(
        [
            1 - (target - part).square().sum() / (target - target.mean(0)).square().sum()
            for target, part in zip(activations, parts, strict=True)
        ]
    )
    own = r2[engine.sae.models.index(source)]
    return torch.stack([own, (r2.sum() - own) / (len(r2) - 1)])


def _check_finite(loss: float, step: int, epoch: int, source: str) -> None:
    if not math.isfinite(loss):
        raise UserError(
            f"The loss is {loss} at step {step} (epoch {epoch}, source '{source}'). "
            "Lower `train.learning_rate`, or raise `train.warmup_epochs`."
        )
