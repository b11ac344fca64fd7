"""How alike two representations of the same rows are, beside what re-paired rows give.

Mutual k-nearest-neighbours (Huh et al. 2024, arXiv 2405.07987) and linear CKA, biased (Kornblith et al. 2019) and
unbiased (Song et al. 2012). Width and depth inflate such scores, so each stands beside its permutation null.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from usae.common.types import Array

NEIGHBOURS = 10
CLAMP = 0.95  # quantile of the absolute values at which they are cut off


@dataclass(frozen=True)
class Similarity:
    """A similarity with its null. null_mean, null_sd: over re-pairings; p: share of them, the true one included,
    that reach it."""

    value: float
    null_mean: float
    null_sd: float
    p: float

    @classmethod
    def against(cls, value: float, null: Array) -> "Similarity":
        """A value beside those of re-paired rows."""
        p = (1 + int((null >= value).sum())) / (1 + len(null))
        return cls(float(value), float(null.mean()), float(null.std(ddof=1)), p)

    @property
    def calibrated(self) -> float:
        """0 = as re-paired rows, 1 = the same; NaN where these reach 1 themselves."""
        room = 1 - self.null_mean
        return (self.value - self.null_mean) / room if room > 0 else float("nan")


def prepared(features: Array) -> Array:
    """Features [n, d] clamped at the 95 % quantile of their absolute values, rows at unit norm.

    Zeros do not count for the quantile, so that sparse codes are not cut to nothing.
    """
    sizes = np.abs(features[features != 0])
    limit = np.quantile(sizes, CLAMP) if sizes.size else 1.0
    clamped = np.clip(features.astype(np.float64), -limit, limit)
    norms = np.linalg.norm(clamped, axis=1, keepdims=True)
    return np.asarray(np.divide(clamped, norms, out=np.zeros(clamped.shape), where=norms > 0))


def neighbours(features: Array, k: int = NEIGHBOURS) -> Array:
    """(n, k) the rows with the largest inner product with each row of `features` [n, d], itself excluded."""
    similarity = features @ features.T  # (n, n)
    np.fill_diagonal(similarity, -np.inf)
    return np.argpartition(-similarity, k - 1, axis=1)[:, :k]


def mutual_knn(left: Array, right: Array, permutations: Sequence[Array]) -> Similarity:
    """Share of neighbours (n, k) in common; independent rows give k / (n - 1). `permutations`: each (n,)."""
    rows = np.arange(len(left))[:, None]
    member = np.zeros((len(left), len(left)), dtype=bool)
    member[rows, left] = True
    null = []
    for order in permutations:
        position = np.empty_like(order)
        position[order] = np.arange(len(order))
        null.append(member[rows, position[right[order]]].mean())
    return Similarity.against(member[rows, right].mean(), np.array(null))


def linear_cka(left: Array, right: Array, permutations: Sequence[Array]) -> tuple[Similarity, Similarity]:
    """Biased and unbiased linear CKA of features [n, d] and [n, e]; take the unbiased one when n < 10 d."""
    one, other = _Gram.of(left), _Gram.of(right)
    observed = one.hsic(other, np.arange(len(left)))
    null = np.array([one.hsic(other, order) for order in permutations])  # (permutations, 2)
    own = [gram.hsic(gram, np.arange(len(left))) for gram in (one, other)]
    scale = np.sqrt(np.abs(own[0] * own[1]))  # (2,)
    biased, unbiased = (
        Similarity.against(observed[kind] / scale[kind], null[:, kind] / scale[kind]) for kind in (0, 1)
    )
    return biased, unbiased


@dataclass(frozen=True)
class _Gram:
    """Inner products of all rows: off-diagonal [n, n], diagonal [n], and sums of rows without the diagonal [n]."""

    off: Array
    diagonal: Array
    sums: Array

    @classmethod
    def of(cls, features: Array) -> "_Gram":
        centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
        gram = centred @ centred.T
        diagonal = gram.diagonal().copy()
        np.fill_diagonal(gram, 0)
        return cls(gram, diagonal, gram.sum(axis=1))

    def hsic(self, other: "_Gram", order: Array) -> Array:
        """(2,) biased and unbiased Hilbert-Schmidt independence criterion with the rows `order` of `other`."""
        n = len(order)
        moved = other.off.take(order, axis=0).take(order, axis=1)
        product = float(np.einsum("ij,ij->", self.off, moved))
        # Rows are centred, so every row of a whole Gram matrix sums to 0 and the biased criterion is a product.
        biased = product + self.diagonal @ other.diagonal[order]
        totals = self.sums.sum() * other.sums.sum() / ((n - 1) * (n - 2))
        unbiased = product + totals - 2 * (self.sums @ other.sums[order]) / (n - 2)
        return np.array([biased / (n - 1) ** 2, unbiased / (n * (n - 3))])
