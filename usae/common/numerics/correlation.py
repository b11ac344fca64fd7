"""Correlation of all units of one side with all units of another, from streamed sums.

Units are channels of activations, concepts, or planted activities (stages `planted` and `measure`).
"""

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from scipy import sparse

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
        products = one.T @ other
        self.rows += one.shape[0]
        if sparse.issparse(products):
            entries = products.tocoo()
            self.products[entries.row, entries.col] += entries.data
        else:
            self.products += products
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
        covariance = self.products / self.rows - np.outer(left[0], right[0])
        spread = np.sqrt(np.outer(np.maximum(left[1] - left[0] ** 2, 0), np.maximum(right[1] - right[0] ** 2, 0)))
        return np.asarray(np.divide(covariance, spread, out=np.zeros(spread.shape), where=spread > 0))


def _sums(rows: Rows) -> Array:
    """(2, units): sums and sums of squares."""
    squares = rows.multiply(rows) if sparse.issparse(rows) else np.square(rows)
    return np.stack([np.asarray(rows.sum(axis=0)).ravel(), np.asarray(squares.sum(axis=0)).ravel()])
