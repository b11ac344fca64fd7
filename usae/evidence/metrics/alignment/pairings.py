"""Correlations of the units of every two models while whole images are re-paired (table `alignment`).

Means and spreads do not change when images move: each model's rows are scaled once, and a pairing costs a product.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Self

import numpy as np
from scipy import sparse

from usae.common.numerics.correlation import Rows
from usae.common.numerics.sparse_sums import add_products
from usae.common.types import Array, Pair
from usae.evidence.metrics.alignment.rows import Source

BLOCK_UNITS = 512  # of the left side, whose centres are taken off at once
FULL = 8  # units for each that is not 0, up to which a product of dense rows takes less time


@dataclass(frozen=True)
class ScaledRows:
    """Rows of one model, of which sums of products with another's, less those of the centres, are correlations.

    rows [images * tokens, units]: activations have mean 0. centre (units,): means of codes, over their standard
    deviations, else 0. Units that never change are 0.
    """

    rows: Rows
    centre: Array
    tokens: int

    @classmethod
    def of(cls, source: Source, images: Array) -> Self:
        """All rows of increasing `images`."""
        rows = source.rows(images)
        if not sparse.issparse(rows):
            rows = rows - rows.mean(axis=0, dtype=np.float64).astype(rows.dtype)
        mean, square = (_column_means(each) for each in (rows, _squared(rows)))
        spread = np.sqrt(np.maximum(square - mean**2, 0))
        inverse = np.divide(1, spread, out=np.zeros(len(spread)), where=spread > 0)
        scale = (inverse / np.sqrt(rows.shape[0])).astype(rows.dtype)
        if sparse.issparse(rows):
            scaled = sparse.csr_array(rows @ sparse.diags_array(scale))
            full = rows.shape[1] * rows.shape[0] <= FULL * rows.nnz
            return cls(scaled.toarray() if full else scaled, mean * inverse, source.tokens)
        return cls(rows * scale, np.zeros(len(scale)), source.tokens)

    def moved(self, order: Array) -> Rows:
        """The rows with the images in another order."""
        return self.rows[(order[:, None] * self.tokens + np.arange(self.tokens)).ravel()]


def correlations(models: Mapping[str, ScaledRows], order: Array) -> Iterator[tuple[Pair, Array]]:
    """(units, units) of one pair of models after another; model i shows the images moved i times by `order`."""
    moved, partner = {}, np.arange(len(order))
    for model, scaled in models.items():
        moved[model] = scaled.moved(partner)
        partner = order[partner]
    for one, other in combinations(models, 2):
        found = _products(moved[one], moved[other])
        for start in range(0, len(found), BLOCK_UNITS):
            found[start : start + BLOCK_UNITS] -= np.outer(
                models[one].centre[start : start + BLOCK_UNITS], models[other].centre
            )
        yield (one, other), found


def _products(left: Rows, right: Rows) -> Array:
    """(left, right) sums of products of the rows."""
    if not (sparse.issparse(left) and sparse.issparse(right)):
        return dense(left.T @ right)
    total = np.zeros((left.shape[1], right.shape[1]))
    add_products(total, left, right)
    return total


def dense(rows: Rows | sparse.csc_array) -> Array:
    """The same rows, dense."""
    return np.asarray(rows.toarray() if sparse.issparse(rows) else rows)


def _squared(rows: Rows) -> Rows:
    return rows.multiply(rows) if sparse.issparse(rows) else np.square(rows)


def _column_means(rows: Rows) -> Array:
    return np.asarray(rows.mean(axis=0, dtype=np.float64)).ravel()
