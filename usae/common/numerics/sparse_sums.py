"""Sums of products of two sides' sparse rows, added to a dense matrix.

Sums over tokens are dense soon: a token with k codes on either side adds to k^2 cells. scipy's product of sparse
matrices sorts out first which cells there are, and takes about eight times as long (`benchmarks.measuring`).
"""

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from usae.common.types import Array

UNITS = 32  # of the left side, whose cells are added at once: they stay in a processor's cache
ENTRIES = 4096  # of the left side, at once


def add_products(total: Array, left: sparse.csr_array, right: sparse.csr_array) -> None:
    """total (l, r) += left.T @ right, of rows (n, l) and (n, r) of the same tokens; total: float64, and a view is
    written through.

    Every cell is summed in the order of the rows; only where a unit has more than ENTRIES entries are they summed
    by as many at a time.
    """
    columns, (indices, values) = left.tocsc(), _padded(right)
    for first, entries, unit in _portions(columns):
        part, rows = total[first : first + UNITS], columns.indices[entries]
        cells = indices[rows] + unit[:, None] * total.shape[1]  # (entries, k)
        weights = values[rows] * columns.data[entries, None]
        part += np.bincount(cells.ravel(), weights.ravel(), part.size).reshape(part.shape)


def _portions(columns: sparse.csc_array) -> Iterator[tuple[int, slice, Array]]:
    """First unit of some, which entries are theirs, and of which unit each is, counted from the first."""
    for first in range(0, columns.shape[1], UNITS):
        ends = columns.indptr[first : first + UNITS + 1]
        unit = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
        for start in range(0, len(unit), ENTRIES):
            own = unit[start : start + ENTRIES]
            yield first, slice(ends[0] + start, ends[0] + start + len(own)), own


def _padded(rows: sparse.csr_array) -> tuple[Array, Array]:
    """(n, k) columns and values of the entries of every row; column 0 and value 0 where it has fewer."""
    counts = np.diff(rows.indptr)
    held = np.arange(counts.max(initial=0)) < counts[:, None]  # (n, k)
    indices, values = np.zeros(held.shape, np.int64), np.zeros(held.shape)
    indices[held], values[held] = rows.indices, rows.data
    return indices, values
