"""One SAE in training: its steps, their log, and a watch over its loss (`loop.py` has any number of them).

Each step draws one source model, encodes its tokens, reconstructs every model and steps AdamW (paper sec. 3).
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from usae.activations.sampling import Batch, shuffled_pairs
from usae.common.errors import Diverged
from usae.common.seeds import generator
from usae.common.variant import Variant
from usae.sae.sparse import sparse_decode
from usae.training.loop.log import TrainingLog
from usae.training.loop.optimisation import Engine, Update

SCORED_EVERY = 20  # steps between two whose R2 is computed
SPAN = 20  # steps: time constant of the mean loss
DIVERGED = 5.0  # times the lowest mean loss so far: no longer training


@dataclass
class Watch:
    """The loss as an exponential mean over the last steps, and where that was lowest."""

    mean: float = math.nan
    best: float = math.inf
    best_step: int = 0

    def see(self, loss: float, step: int) -> None:
        """Take in the loss of a step.

        Raises:
            Diverged: the mean has run away from its best.
        """
        self.mean = loss if math.isnan(self.mean) else self.mean + (loss - self.mean) / SPAN
        if self.mean < self.best:
            self.best, self.best_step = self.mean, step
        if self.mean > DIVERGED * self.best:
            raise Diverged(
                f"Training diverges: the mean loss was {self.best:.4g} at best (step {self.best_step}) and is "
                f"{self.mean:.4g} at step {step}, more than {DIVERGED:g} times as much."
            )


class Trainee:
    """One SAE in training, its log, and the numbers of the steps since the last look."""

    def __init__(self, variant: Variant, places: list[int], engine: Engine, log: TrainingLog) -> None:
        self.variant, self.places, self.engine, self.log = variant, places, engine, log
        self.unread: list[tuple[int, int, str, float, Tensor]] = []  # step, epoch, source, rate, numbers
        self.watch = Watch()
        self.r2_cross = math.nan  # when last computed

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
        scores = _scores(self.engine, source, standardised, update) if batch.step % SCORED_EVERY == 0 else None
        self.unread.append((batch.step, batch.epoch, source, update.rate, _numbers(update, scores)))

    def look(self) -> None:
        """Log the steps since the last look.

        Raises:
            Diverged: a loss or a gradient is not finite, or the loss has run away.
        """
        if not self.unread:
            return
        numbers = torch.stack([unread[-1] for unread in self.unread]).double().cpu().tolist()
        for (step, epoch, source, rate, _), (loss, reconstruction, norm, r2_self, r2_cross) in zip(
            self.unread, numbers, strict=True
        ):
            _check_finite(loss, norm, step, epoch, source)
            self.watch.see(loss, step)
            self.r2_cross = self.r2_cross if math.isnan(r2_cross) else r2_cross
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
        self.unread.clear()

    def state(self) -> dict[str, Any]:
        """Everything that the next steps and the log depend on."""
        return {"engine": self.engine.state(), "log": self.log.state(), "watch": asdict(self.watch)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self.engine.restore(state["engine"])
        self.log.restore(state["log"])
        self.watch = Watch(**state["watch"])


def draw_source(seed: int, step: int, models: tuple[str, ...]) -> str:
    """The model that is encoded in a step: uniform, and a function of the seed and the step alone."""
    return models[int(generator(seed, "source", step).integers(len(models)))]


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


def _check_finite(loss: float, norm: float, step: int, epoch: int, source: str) -> None:
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise Diverged(
            f"The loss is {loss:.4g} and the gradient's norm {norm:.4g} at step {step} (epoch {epoch}, source "
            f"'{source}'): numbers that are not finite."
        )
