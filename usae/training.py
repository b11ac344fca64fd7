"""Training of the universal SAE (stage `train`) and of single-model SAEs (stage `baselines`): the same code.

Each step draws one source model, encodes its tokens, reconstructs every model and steps AdamW (paper sec. 3).
With `update: source`, `schedule: per_model`, `aux: multi_topk`, `init: random` this is the authors' recipe.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from usae.errors import UserError
from usae.manifests import Manifest
from usae.params import TrainParams
from usae.progress import counter
from usae.sae import UniversalSAE, sparse_decode, top_k
from usae.sampling import PairedActivations, check_batch, order
from usae.steps import Recipe, StepLoss, fast_step

PAIRED_INIT = 11  # stream of the seed that draws the tokens at which concepts start
SCALE_IMAGES = 32  # images on which the first codes are scaled


@dataclass(frozen=True)
class Schedule:
    """Learning rate: linear warm-up from `final` to `peak`, then cosine back to `final` over `steps` in all."""

    peak: float
    final: float
    warmup: int
    steps: int

    def rate(self, update: int) -> float:
        """The rate at update 0, 1, ..., steps - 1."""
        if update < self.warmup:
            return self.final + (self.peak - self.final) * update / max(1, self.warmup - 1)
        progress_made = (update - self.warmup) / (self.steps - self.warmup)
        return self.final + 0.5 * (self.peak - self.final) * (1 + math.cos(math.pi * progress_made))


@dataclass(frozen=True)
class StepLog:
    """One row of reports/training.parquet; learning_rate and gradient_norm (before clipping) are the source's."""

    step: int
    epoch: int
    source: str
    loss: float
    reconstruction: float
    auxiliary: float
    learning_rate: float
    gradient_norm: float


class Engine:
    """Optimisers and schedules around the step; one AdamW per model, as in the paper."""

    def __init__(self, sae: UniversalSAE, params: TrainParams, schedule: Schedule) -> None:
        self.sae, self.params, self.schedule = sae.train(), params, schedule
        self.recipe = Recipe(params.update, params.aux, params.aux_weight)
        self.steps = 0
        self.updates = {(model, group): 0 for model in sae.models for group in ("encoder", "dictionary")}
        self.optimisers = {model: self._optimiser(model) for model in sae.models}

    def step(self, source: str, activations: Sequence[Float[Tensor, "n _"]]) -> tuple[StepLoss, float, float]:
        """One update on standardised rows; returns the loss, the source's gradient norm and its learning rate."""
        loss = fast_step(self.sae, source, activations, self.recipe)
        loss.total.backward()
        norms = {model: self._clip(model) for model in self._learners(source)}
        for model in norms:
            self._update(model)
        self.steps += 1
        return loss, norms[source], self.optimisers[source].param_groups[0]["lr"]

    def _learners(self, source: str) -> list[str]:
        return [source] if self.params.update == "source" else list(self.sae.models)

    def _clip(self, model: str) -> float:
        parameters = [p for p in self.sae.part(model).parameters() if p.grad is not None]
        return float(torch.nn.utils.clip_grad_norm_(parameters, self.params.clip_norm))

    def _update(self, model: str) -> None:
        optimiser = self.optimisers[model]
        for group in optimiser.param_groups:
            if any(parameter.grad is not None for parameter in group["params"]):
                group["lr"] = self._rate((model, group["name"]))
                self.updates[(model, group["name"])] += 1
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    def _rate(self, key: tuple[str, str]) -> float:
        """Per model: a group's own updates count, and its first one is at full rate (the authors' code)."""
        if self.params.schedule == "global":
            return self.schedule.rate(self.steps)
        return self.schedule.peak if self.updates[key] == 0 else self.schedule.rate(self.updates[key])

    def _optimiser(self, model: str) -> torch.optim.AdamW:
        part = self.sae.part(model)
        groups = [
            {"params": list(part.encoder.parameters()), "name": "encoder"},
            {"params": list(part.dictionary.parameters()), "name": "dictionary"},
        ]
        return torch.optim.AdamW(groups, lr=self.schedule.peak, weight_decay=self.params.weight_decay)


def train(
    manifests: dict[str, Manifest],
    data: PairedActivations,
    params: TrainParams,
    *,
    k: int,
    seed: int,
    device: torch.device,
    steps: int | None = None,
) -> tuple[UniversalSAE, pd.DataFrame]:
    """Train an SAE on the models of `manifests`; returns it in eval mode, and one log row per step.

    steps: stop there (None: all epochs); the schedule then ends there too.

    Raises:
        UserError: a batch is larger than the set, or the loss is no longer finite.
    """
    check_batch(params.batch_images, data.images)
    per_epoch = math.ceil(data.images / params.batch_images)
    steps = params.epochs * per_epoch if steps is None else steps
    sae = new_sae(manifests, data, params, k=k, seed=seed).to(device)
    warmup = round(params.warmup_epochs * per_epoch)
    engine = Engine(sae, params, Schedule(params.learning_rate, params.final_learning_rate, warmup, steps))
    sources = random.Random(seed)
    rows = []
    with counter(steps, description="train", unit="step") as bar:
        for epoch in range(math.ceil(steps / per_epoch)):
            images = order(seed, epoch, data.images)[: (steps - epoch * per_epoch) * params.batch_images]
            for batch in data.batches(images, params.batch_images, epoch, epoch * per_epoch):
                source = sae.models[sources.randrange(len(sae.models))]
                standardised = [
                    sae.part(model).standardise(raw.to(device))
                    for model, raw in zip(sae.models, batch.activations, strict=True)
                ]
                rows.append(_logged(batch.step, epoch, source, *engine.step(source, standardised)))
                bar.update()
                bar.set_postfix(loss=f"{rows[-1].loss:.3f}", refresh=False)
    return sae.eval(), pd.DataFrame([asdict(row) for row in rows])


def new_sae(
    manifests: dict[str, Manifest], data: PairedActivations, params: TrainParams, *, k: int, seed: int
) -> UniversalSAE:
    """An SAE before training, with the statistics and the identity of each model's activations."""
    torch.manual_seed(seed)
    about = {
        "models": {model: _about(manifest) for model, manifest in manifests.items()},
        "train": params.model_dump(),
        "seed": seed,
    }
    widths = {model: manifest.width for model, manifest in manifests.items()}
    sae = UniversalSAE(widths, params.dictionary, k, about)
    for model, manifest in manifests.items():
        sae.part(model).mean.fill_(manifest.mean)
        sae.part(model).std.fill_(manifest.std)
    if params.init == "paired":
        paired_init(sae, data, manifests, seed)
    return sae


@torch.no_grad()
def paired_init(sae: UniversalSAE, data: PairedActivations, manifests: dict[str, Manifest], seed: int) -> None:
    """Start concept c of every model at one token (image, position), the same in all of them.

    D_j[c] is that token's direction in model j; the encoder's row is the same direction seen from the mean token.
    The shared space is aligned before the first step. Codes start at the scale that reconstructs best.

    Raises:
        UserError: there are fewer training tokens than concepts.
    """
    tokens = data.stores[0].tokens
    if data.images * tokens < sae.concepts:
        raise UserError(
            f"`train.init: paired` starts every concept at a token of its own, but {data.images} images with "
            f"{tokens} tokens are fewer than the {sae.concepts} concepts; lower `train.dictionary`."
        )
    drawn = np.random.default_rng([seed, PAIRED_INIT]).choice(data.images * tokens, sae.concepts, replace=False)
    images, positions = np.divmod(drawn, tokens)
    sample = data.rows(np.arange(min(data.images, SCALE_IMAGES)))
    for number, model in enumerate(sae.models):
        part = sae.part(model)
        starts = part.standardise(data.tokens(number, images, positions))  # (concepts, width)
        centre = part.standardise(torch.tensor(manifests[model].channel_mean))  # (width,)
        part.dictionary.weight.copy_(F.normalize(starts))
        part.encoder.linear.weight.copy_(F.normalize(starts - centre))
        part.encoder.linear.bias.zero_()
        part.encoder.norm.weight.fill_(best_scale(sae, model, part.standardise(sample[number])))


def best_scale(sae: UniversalSAE, model: str, rows: Float[Tensor, "n d"]) -> float:
    """The factor on the codes of `model` that brings its reconstruction of standardised `rows` nearest to them."""
    part = sae.part(model)
    pre = F.batch_norm(part.encoder.linear(rows), None, None, training=True)  # (n, concepts)
    reconstruction = sparse_decode(top_k(pre, sae.k), part.dictionary.unit())
    return (rows * reconstruction).sum().item() / reconstruction.square().sum().item()


def independent_steps(params: TrainParams, images: int, models: int) -> int:
    """Steps of a single-model SAE such that its dictionary is updated as often as in the universal SAE."""
    steps = params.epochs * math.ceil(images / params.batch_images)
    return steps if params.update == "all" else math.ceil(steps / models)


def write_curve(log: pd.DataFrame, path: Path, points: int = 200) -> None:
    """The loss by source, averaged over stretches of steps (columns step, source, loss); for `dvc plots`."""
    stretch = max(1, math.ceil(len(log) / points))
    grouped = log.assign(step=log["step"] // stretch * stretch).groupby(["step", "source"], as_index=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(grouped["loss"].mean()).to_csv(path, index=False, float_format="%.6g", lineterminator="\n")


def _about(manifest: Manifest) -> dict[str, object]:
    """Which activations these are: enough to extract them again."""
    keys = ("backbone", "layer", "norm", "grid", "fit", "mean", "std", "statistics", "statistics_images")
    return {key: getattr(manifest, key) for key in keys}


def _logged(step: int, epoch: int, source: str, loss: StepLoss, gradient_norm: float, rate: float) -> StepLog:
    """The step as a log row.

    Raises:
        UserError: the loss is not finite.
    """
    total = loss.total.item()
    if not math.isfinite(total):
        raise UserError(
            f"The loss is {total} at step {step} (epoch {epoch}, source '{source}'). "
            "Lower `train.learning_rate`, or raise `train.warmup_epochs`."
        )
    return StepLog(
        step=step,
        epoch=epoch,
        source=source,
        loss=total,
        reconstruction=loss.reconstruction.sum().item(),
        auxiliary=loss.auxiliary.sum().item(),
        learning_rate=rate,
        gradient_norm=gradient_norm,
    )
