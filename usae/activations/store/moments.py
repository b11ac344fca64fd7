"""Count, mean and spread of each channel, exactly and in any order of merging (stages `extract`, `measure`)."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np
from jaxtyping import Float64

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
    def merged(cls, chunks: Iterable["Moments"], width: int) -> "Moments":
        """Moments of all the rows of `chunks`, merged in their order."""
        return reduce(cls.merge, chunks, cls.none(width))

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


@dataclass(frozen=True)
class NativeMoments:
    """Moments of a chunk's native tokens, float64: by channel, and by image over its channels too.

    mean, m2 (sum of squared deviations): [d]. image_mean, image_m2: [images]. tokens: of an image, on the
    layer's own grid, before they are resampled to the common one.
    """

    mean: np.ndarray
    m2: np.ndarray
    image_mean: np.ndarray
    image_m2: np.ndarray
    tokens: int

    @classmethod
    def of(cls, moments: Float64[np.ndarray, "images 2 d"], tokens: int) -> "NativeMoments":
        """From each image's channel means and sums of squared deviations over its tokens."""
        means, m2 = moments[:, 0], moments[:, 1]  # (images, d) each
        mean, image_mean = means.mean(0), means.mean(1)  # (d), (images)
        spread = np.square(means - image_mean[:, None]).sum(1)  # (images)
        return cls(
            mean=mean,
            m2=m2.sum(0) + tokens * np.square(means - mean).sum(0),
            image_mean=image_mean,
            image_m2=m2.sum(1) + tokens * spread,
            tokens=tokens,
        )

    @classmethod
    def unpacked(cls, values: np.ndarray, channels: int, tokens: int) -> "NativeMoments":
        """From their `packed` values."""
        mean, m2, images = np.split(values, [channels, 2 * channels])
        image_mean, image_m2 = np.split(images, 2)
        return cls(mean, m2, image_mean, image_m2, tokens)

    def packed(self) -> np.ndarray:
        """All values, [2 * (d + images)]: docs/format.md gives their order."""
        return np.concatenate([self.mean, self.m2, self.image_mean, self.image_m2]).astype("<f8")

    def channels(self) -> Moments:
        """Of every channel."""
        return Moments(self.tokens * len(self.image_mean), self.mean, self.m2)

    def scalar(self, images: int) -> Moments:
        """Of all values of the first `images` images, as if they were one channel."""
        mean, m2 = self.image_mean[:images].mean(), self.image_m2[:images].sum()
        values = self.tokens * len(self.mean)
        m2 += values * np.square(self.image_mean[:images] - mean).sum()
        return Moments(values * len(self.image_mean[:images]), np.array([mean]), np.array([m2]))
