"""Training of SAEs (stages `train`, `baselines` and `controls`): one pass over the data, any number of SAEs.

The result is a function of the activations, the params and the seed: an interrupted run that goes on from a
checkpoint ends in the same bits. What belongs to one of the SAEs is in `trainer.py`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from usae.activations.sampling import Loader, PairedActivations, Plan, Resident
from usae.activations.store.manifests import Manifest
from usae.common.errors import Diverged, Interrupted
from usae.common.params import TrainParams
from usae.common.runtime.interrupts import Stop, graceful
from usae.common.runtime.progress import counter
from usae.common.runtime.ranks import Ranks
from usae.common.runtime.tracker import Tracker
from usae.common.variant import Variant
from usae.sae.estimator import Estimator
from usae.training.loop.checkpoints import Checkpoints, restore_rng, rng_state
from usae.training.loop.log import TrainingLog
from usae.training.loop.method import Start
from usae.training.loop.methods import new_method
from usae.training.loop.schedule import Schedule
from usae.training.loop.trainer import Trainer

LOOK_EVERY = 20  # steps between two looks at the numbers on a GPU, which then has to hand them over
REMEDY = "Lower `train.learning_rate`, or raise `train.warmup_epochs`."


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out: nothing here changes its result, up to rounding on another device."""

    device: torch.device
    resident: Resident = "auto"
    checkpoints: Checkpoints | None = None
    curve: Path | None = None  # rewritten while the first SAE trains
    track: Tracker | None = None


@dataclass(frozen=True)
class Result:
    """sae: in eval mode. log: one row a step (table `training`)."""

    sae: Estimator
    log: pd.DataFrame


def train(
    variants: Mapping[str, Variant],
    manifests: Mapping[str, Manifest],
    data: PairedActivations,
    params: TrainParams,
    options: RunOptions,
    *,
    seed: int,
    steps: int | None = None,
) -> dict[str, Result]:
    """Train an SAE per variant on its models, among those of `manifests`; `data` has their stores in that order.

    seed: of the order of the images. steps: stop there (None: all epochs); the schedule then ends there too.

    Raises:
        UserError: a batch is larger than the set, or a store is no longer readable.
        Diverged: a loss or a gradient is not finite, or the loss has run away; the checkpoints before stay.
        Interrupted: by SIGTERM or SIGINT; with checkpoints, the same call goes on where this one stopped.
    """
    ranks = Ranks.current()
    plan = Plan(params.batch_images, seed, params.window_images, params.shuffle_tokens)
    loader = Loader(data, plan, options.device, options.resident, (ranks.rank, ranks.size))
    steps = params.epochs * loader.steps_per_epoch if steps is None else steps
    warmup = round(params.warmup_epochs * loader.steps_per_epoch)
    schedule = Schedule(params.learning_rate, params.final_learning_rate, warmup, steps)
    shown = next(iter(variants)) if ranks.rank == 0 else None
    trainers = {}
    for name, variant in variants.items():
        models = variant.models or tuple(manifests)
        own = {model: manifests[model] for model in models}
        method = new_method(Start(variant, own, data.select(models), params, schedule, ranks, options.device))
        log = TrainingLog(options.curve, track=options.track) if name == shown else TrainingLog()
        trainers[name] = Trainer(variant, models, method, log)
    _run(Trainers(trainers, ranks, options.device, options.checkpoints), loader, steps)
    return {name: Result(trainer.method.finished(), trainer.log.frame()) for name, trainer in trainers.items()}


class Trainers:
    """SAEs that are trained side by side, and where their common state is kept."""

    def __init__(
        self, members: dict[str, Trainer], ranks: Ranks, device: torch.device, checkpoints: Checkpoints | None
    ) -> None:
        self.members, self.ranks, self.device, self.checkpoints = members, ranks, device, checkpoints
        self.saved: int | None = None  # the step that the last checkpoint goes on with

    def restore(self) -> int:
        """Go on from the last checkpoint, if there is one; returns the step to do next."""
        state = self.checkpoints.load() if self.checkpoints else None
        if state is None:
            return 0
        for name, member in self.members.items():
            member.restore(state["members"][name])
        restore_rng(state["rng"])
        self.saved = int(state["step"])
        return self.saved

    def looking(self, step: int) -> bool:
        """Whether to look after so many steps: now and then on a GPU, which has to wait for it."""
        return self.device.type != "cuda" or step % LOOK_EVERY == 0

    def look(self) -> None:
        """Log what was done since the last look (see `Trainer.look`).

        Raises:
            Diverged: it did, in one of them.
        """
        for member in self.members.values():
            try:
                member.look()
            except Diverged as error:
                raise Diverged(f"{error} {REMEDY} {self._kept()}") from None

    def show(self) -> None:
        """Bring curve and tracker up to date."""
        for member in self.members.values():
            member.log.show()

    def agreed(self, stop: Stop, step: int) -> tuple[bool, int]:
        """Whether to save now, and the signal to end with then (0: none): the same in all processes.

        A signal may reach one of them alone, and the others would wait for it. The first one's clock counts.
        """
        if self.ranks.size > 1 and not self.looking(step):
            return False, 0
        due = self.ranks.rank == 0 and self.checkpoints is not None and self.checkpoints.due()
        save, signal = self.ranks.highest([int(due), stop.signal], self.device)
        return bool(save or signal), signal

    def save(self, step: int) -> None:
        """Keep the state before `step`, once its numbers have been found good; no process goes on before that."""
        self.look()
        self.show()
        if self.checkpoints is None:
            return
        if self.ranks.rank == 0:
            members = {name: member.state() for name, member in self.members.items()}
            self.checkpoints.save({"step": step, "members": members, "rng": rng_state()})
        self.ranks.barrier()
        self.saved = step

    def _kept(self) -> str:
        if self.checkpoints is None or self.saved is None:
            return "There is no checkpoint from before."
        return f"The last good checkpoint, after {self.saved} steps, is kept in {self.checkpoints.folder}."


def independent_steps(params: TrainParams, images: int, models: int) -> int:
    """Steps of a single-model SAE such that its dictionary is updated as often as in the universal SAE."""
    steps = params.epochs * math.ceil(images / params.batch_images)
    return steps if params.update == "all" else math.ceil(steps / models)


def _run(trainers: Trainers, loader: Loader, steps: int) -> None:
    """All steps that are left, with a checkpoint now and then."""
    done, shown = trainers.restore(), trainers.ranks.rank == 0
    with counter(steps, description="train", unit="step", done=done, shown=shown) as bar, graceful() as stop:
        for batch in loader.batches(done, steps):
            for member in trainers.members.values():
                member.step(batch)
            done = batch.step + 1
            bar.update()
            if trainers.looking(done):
                trainers.look()
                _show(bar, trainers, loader)
            save, signal = trainers.agreed(stop, done)
            if save:
                trainers.save(done)
            if signal:
                raise Interrupted(done, signal)
        trainers.look()
        trainers.show()
        _show(bar, trainers, loader)


def _show(bar: "tqdm[None]", trainers: Trainers, loader: Loader) -> None:
    """Beside the bar: mean loss, cross R2, tokens per second, share of time spent waiting for data, best loss."""
    if bar.disable:
        return
    first = next(iter(trainers.members.values()))
    seconds = max(bar.format_dict["elapsed"], 1e-3)
    batch_tokens = loader.sampler.plan.batch_images * loader.data.tokens
    rate = (bar.n - bar.initial) * batch_tokens / seconds
    bar.set_postfix_str(
        f"loss {first.watch.mean:.3f}, cross R2 {first.r2_cross:.2f}, {rate:,.0f} tokens/s, "
        f"{loader.waited / seconds:.0%} waiting, best {first.watch.best:.3f}",
        refresh=False,
    )
