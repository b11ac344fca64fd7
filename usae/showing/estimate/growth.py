"""What something takes as it grows: `fixed`, and for each of what is counted."""

from dataclasses import dataclass

import numpy as np

from usae.common.types import Array


@dataclass(frozen=True)
class Growth:
    """fixed, each: seconds, seconds of the CPU and bytes (a `Cost`), of any size and of each thing counted."""

    fixed: Array
    each: Array

    @classmethod
    def through(cls, few: tuple[float, Array], many: tuple[float, Array]) -> "Growth":
        """The line through two (count, cost), neither part of it below zero; of equal counts: the costlier."""
        (less, cheap), (more, dear) = few, many
        if more <= less:
            return cls(np.maximum(cheap, dear), np.zeros_like(dear))
        each = np.clip((dear - cheap) / (more - less), 0.0, dear / more)
        return cls(dear - each * more, each)

    @classmethod
    def at_rate(cls, each: Array, many: tuple[float, Array]) -> "Growth":
        """The line through one (count, cost), of a known slope; its fixed part not below zero."""
        count, cost = many
        return cls(np.maximum(0.0, cost - each * count), each)

    def at(self, count: float) -> Array:
        """The cost of so many."""
        return self.fixed + self.each * count
