"""One SAE in training: its steps, their log, and a watch over its loss (`loop.py` has any number of them).

What a step does is the method's own affair; here is what all methods have in common.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from usae.activations.sampling import Batch, shuffled_pairs
from usae.common.errors import Diverged
from usae.common.variant import Variant
from usae.training.loop.log import TrainingLog
from usae.training.loop.method import Method, Update

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


class Trainer:
    """One SAE in training, its log, and the numbers of the steps since the last look.

    models: in its order. steps: of its own, after which it stays as it is. start: see `Method`.
    """

    def __init__(
        self, variant: Variant, models: tuple[str, ...], method: Method, log: TrainingLog, steps: int
    ) -> None:
        self.variant, self.models, self.method, self.log, self.steps = variant, models, method, log, steps
        self.start = method.start()
        self.unread: list[tuple[int, int, str, float, Tensor]] = []  # step, epoch, about, rate, numbers
        self.watch = Watch()
        self.r2_cross = math.nan  # when last computed

    def step(self, batch: Batch) -> None:
        """One update, while there are steps; a batch with too few images to re-pair is skipped."""
        if batch.step >= self.steps:
            return
        batch = replace(batch, activations={model: batch.activations[model] for model in self.models})
        rows: Mapping[str, Tensor] | None = batch.activations
        if self.variant.pairs == "shuffled":
            rows = shuffled_pairs(batch, self.variant.seed, self.variant.stranger)
        if rows is None:
            return
        update = self.method.step(rows, batch.step, batch.step % SCORED_EVERY == 0)
        self.unread.append((batch.step, batch.epoch, update.about, update.rate, _numbers(update)))

    def look(self) -> None:
        """Log the steps since the last look.

        Raises:
            Diverged: a loss or a gradient is not finite, or the loss has run away.
        """
        if not self.unread:
            return
        numbers = torch.stack([unread[-1] for unread in self.unread]).double().cpu().tolist()
        for (step, epoch, about, rate, _), (loss, reconstruction, norm, r2_self, r2_cross) in zip(
            self.unread, numbers, strict=True
        ):
            _check_finite(loss, norm, step, epoch, about)
            self.watch.see(loss, step)
            self.r2_cross = self.r2_cross if math.isnan(r2_cross) else r2_cross
            self.log.append(
                {
                    "step": step,
                    "epoch": epoch,
                    "source": about,
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
        return {"method": self.method.state(), "log": self.log.state(), "watch": asdict(self.watch)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self.method.restore(state["method"])
        self.log.restore(state["log"])
        self.watch = Watch(**state["watch"])


def _numbers(update: Update) -> Tensor:
    """What `Trainer.look` reads, on the device still: loss, reconstruction, gradient norm, self and cross R2."""
    head = torch.stack([update.loss, update.reconstruction, update.gradient_norm])
    return torch.cat([head, head.new_full((2,), math.nan) if update.r2 is None else update.r2])


def _check_finite(loss: float, norm: float, step: int, epoch: int, about: str) -> None:
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise Diverged(
            f"The loss is {loss:.4g} and the gradient's norm {norm:.4g} at step {step} (epoch {epoch}, source "
            f"'{about}'): numbers that are not finite."
        )
