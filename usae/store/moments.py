"""Count, mean and spread of each channel, exactly and in any order of merging (stages `extract`, `measure`)."""

from dataclasses import dataclass

import numpy as np


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
        """Moments of rows [n, d], shifted by the first row against cancellation."""
        shift = rows[0].astype(np.float64)
        centred = rows.astype(np.float64) - shift  # (n, d)
        mean = centred.mean(0)
        return cls(len(rows), shift + mean, np.square(centred - mean).sum(0))

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
