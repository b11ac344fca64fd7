"""How far a measure moves with the choice of held-out images: a bootstrap over images (stage `contrast`).

Every SAE is measured on the same resamples, so the interval of a difference of two is one of paired images. An
image counts as often as a Poisson draw of mean 1 says; nothing per image is kept.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from usae.common.seeds import generator
from usae.common.types import Array, Pair
from usae.evidence.metrics.firing.counts import cofire_proportion_min
from usae.evidence.metrics.firing.packed import PackedFiring, together

RESAMPLES = 200
DEVIATIONS = 1.96  # on either side: 95 % of a normal law


def image_weights(images: int, seed: int) -> Array:
    """(images, RESAMPLES) how often each image counts in each resample: bytes, 10 MB for 50 000 images."""
    return generator(seed, "bootstrap over images").poisson(1.0, (images, RESAMPLES)).astype(np.uint8)


@dataclass(frozen=True)
class Draws:
    """Of every resample: agreement (RESAMPLES, c), NaN where a model is dead; r2_self, r2_cross (RESAMPLES,)."""

    agreement: Array
    r2_self: Array
    r2_cross: Array


class Resampled:
    """Counts and squared errors of one SAE in every resample; `weights` (images, RESAMPLES)."""

    def __init__(self, models: Sequence[str], concepts: int, weights: Array) -> None:
        resamples = weights.shape[1]
        self.models, self.weights = tuple(models), weights
        self.fires = np.zeros((len(self.models), resamples, concepts))
        self.cofires = np.zeros((resamples, concepts))
        self.tokens = np.zeros(resamples)
        self.errors: dict[Pair, Array] = {}
        self.squares: dict[str, Array] = {}
        self.sums: dict[str, Array] = {}

    def count(self, packed: Sequence[PackedFiring], images: Array) -> None:
        """Add the fires of all models on `images`."""
        weights = self.weights[images].astype(np.float64)  # (images, resamples)
        for fires, member in zip(self.fires, packed, strict=True):
            fires += _weighted(member, weights)
        self.cofires += _weighted(together(packed), weights)
        self.tokens += packed[0].tokens * weights.sum(axis=0)

    def reconstruct(self, target: str, truth: Array, guesses: Iterable[tuple[str, Array]], images: Array) -> None:
        """Add activations (images, tokens, d) of a model, and what each source says of them."""
        weights = self.weights[images].astype(np.float64)
        exact = truth.astype(np.float64)
        self.squares[target] = self.squares.get(target, 0) + np.square(exact).sum(axis=(1, 2)) @ weights
        self.sums[target] = self.sums.get(target, 0) + weights.T @ exact.sum(axis=1)
        for source, guess in guesses:
            error = np.square(exact - guess).sum(axis=(1, 2)) @ weights
            self.errors[source, target] = self.errors.get((source, target), 0) + error

    def draws(self) -> Draws:
        """What the resamples say."""
        agreement = np.stack(
            [cofire_proportion_min(*both) for both in zip(self.cofires, self.fires.swapaxes(0, 1), strict=True)]
        )
        r2 = {pair: self._r2(pair) for pair in self.errors}
        own = [values for (source, target), values in r2.items() if source == target]
        cross = [values for (source, target), values in r2.items() if source != target]
        return Draws(agreement, _mean(own, self.tokens), _mean(cross, self.tokens))

    def _r2(self, pair: Pair) -> Array:
        """(resamples,) about the channel means of the resample."""
        _, target = pair
        total = self.squares[target] - np.square(self.sums[target]).sum(axis=1) / self.tokens
        return np.asarray(1 - self.errors[pair] / total)


def interval(value: float, resampled: Array) -> tuple[float, float]:
    """95 % around `value`, by the standard deviation of the resamples.

    Not their quantiles: counts above a threshold shift when images are drawn twice, which is the resampling's
    doing.
    """
    reach = DEVIATIONS * float(np.nanstd(resampled, ddof=1))
    return value - reach, value + reach


def _weighted(fires: PackedFiring, weights: Array) -> Array:
    """(resamples, c) fires of each concept, every image as often as it counts."""
    shape = (fires.images, fires.concepts)
    by_image = sparse.csr_array((fires.sizes, (fires.image, fires.concept)), shape=shape)  # (images, concepts)
    return np.asarray((by_image.T @ weights).T)


def _mean(values: Sequence[Array], like: Array) -> Array:
    return np.mean(values, axis=0) if len(values) else np.full(len(like), np.nan)
