"""The learning rate over the steps of a run."""

import math
from dataclasses import dataclass


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
