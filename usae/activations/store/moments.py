"""Count, mean and spread of each channel, exactly and in any order of merging (stages `extract`, `measure`)."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np

BLOCK = 512  # rows that are turned into float64 at once: they stay in the cache


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations of each channel, float64; merged by Chan's formula.

    mean, m2: [d].
    """

    count: int
    mean: np.ndarray
    m2: np.ndarray

    @classmethod
    def none(cls, width: int) -> "Moments":
        """Moments of no rows: where merging starts."""
        return cls(0, np.zeros(width), np.zeros(width))

    @classmethod
    def of(cls, rows: np.ndarray) -> "Moments":
        """Moments of rows [n, d]: block by block about the block's own mean, so that nothing cancels."""
        total = cls.none(rows.shape[1])
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK].astype(np.float64)  # (rows, d)
            mean = block.mean(0)
            block -= mean
            total = total.merge(cls(len(block), mean, np.einsum("nd,nd->d", block, block)))
        return total

    @classmethod
    def merged(cls, parts: Iterable["Moments"], width: int) -> "Moments":
        """Moments of all the rows behind `parts`, merged in their order."""
        return reduce(cls.merge, parts, cls.none(width))

    def merge(self, other: "Moments") -> "Moments":
        """Moments of both sets of rows together."""
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        return Moments(count, mean, self.m2 + other.m2 + delta**2 * (self.count * other.count / count))

    def scalar(self) -> tuple[float, float]:
        """One mean and one unbiased standard deviation over rows and channels (the paper's standardisation)."""
        total = self.count * len(self.mean)
        mean = float(self.mean.mean())
        square = float(self.m2.sum() + self.count * np.square(self.mean - mean).sum())
        return mean, (square / (total - 1)) ** 0.5
