"""Correlation of all units of one side with all units of another, from streamed sums.

Units are channels of activations, concepts, or planted activities (stages `planted` and `measure`).
"""

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from scipy import sparse

from usae.common.numerics.sparse_sums import add_products
from usae.common.types import Array

Rows = Array | sparse.csr_array


@dataclass
class CrossCorrelation:
    """Sums in float64 over rows that both sides share; memory left x right, whatever the number of rows."""

    left: int
    right: int
    rows: int = 0
    products: Array = field(init=False)
    left_sums: Array = field(init=False)
    right_sums: Array = field(init=False)

    def __post_init__(self) -> None:
        self.products = np.zeros((self.left, self.right))
        self.left_sums, self.right_sums = np.zeros((2, self.left)), np.zeros((2, self.right))

    def update(self, left: Rows, right: Rows) -> None:
        """Add rows [n, left] and [n, right], dense or sparse, of the same tokens."""
        one, other = left.astype(np.float64), right.astype(np.float64)
        self.rows += one.shape[0]
        if sparse.issparse(one) and sparse.issparse(other):
            add_products(self.products, one, other)
        else:
            self.products += one.T @ other
        self.left_sums += _sums(one)
        self.right_sums += _sums(other)

    def merge(self, other: Self) -> None:
        """Add the sums of other rows."""
        self.rows += other.rows
        self.products += other.products
        self.left_sums += other.left_sums
        self.right_sums += other.right_sums

    @property
    def correlations(self) -> Array:
        """(left, right) Pearson correlations; 0 where one of the units never changes."""
        left, right = self.left_sums / self.rows, self.right_sums / self.rows
        return _pearson(self.products / self.rows, left[:, :, None], right[:, None])


@dataclass
class PairCorrelation:
    """The same of pairs of units: sums (pairs,) of products, and (2, pairs) of each side's values and squares."""

    products: Array
    left_sums: Array
    right_sums: Array
    rows: int = 0

    @classmethod
    def none(cls, pairs: int) -> Self:
        """Sums over no rows."""
        return cls(np.zeros(pairs), *np.zeros((2, 2, pairs)))

    def update(self, left: sparse.csr_array, right: sparse.csr_array) -> None:
        """Add rows [n, pairs] of the same tokens: unit i of the left beside unit i of the right."""
        self.rows += left.shape[0]
        self.products += np.asarray(left.multiply(right).sum(axis=0)).ravel()
        self.left_sums += _sums(left)
        self.right_sums += _sums(right)

    @property
    def correlations(self) -> Array:
        """(pairs,) as `CrossCorrelation.correlations`."""
        return _pearson(self.products / self.rows, self.left_sums / self.rows, self.right_sums / self.rows)


def _pearson(product: Array, left: Array, right: Array) -> Array:
    """Correlations from the means of products, and of values and squares (2, ...) of both sides."""
    spread = np.sqrt(np.maximum(left[1] - left[0] ** 2, 0) * np.maximum(right[1] - right[0] ** 2, 0))
    covariance = product - left[0] * right[0]
    return np.asarray(np.divide(covariance, spread, out=np.zeros(spread.shape), where=spread > 0))


def _sums(rows: Rows) -> Array:
    """(2, units): sums and sums of squares."""
    squares = rows.multiply(rows) if sparse.issparse(rows) else np.square(rows)
    return np.stack([np.asarray(rows.sum(axis=0)).ravel(), np.asarray(squares.sum(axis=0)).ravel()])
