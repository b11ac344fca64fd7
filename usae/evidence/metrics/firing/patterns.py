"""How many tokens each set of models fires on, concept by concept: the sets that occur, and no others."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from usae.common.types import Array

WAITING = 2**20  # keys that wait at least before they are sorted into the table


@dataclass
class PatternCounts:
    """Counts for m models and c concepts. A set is a bitmask with bit i for model i.

    `keys` (n,), increasing: the concept times 2^m, plus the set; `counts` (n,) tokens on which exactly this set
    fires. Memory: that of the sets that occur, though 2^m could.
    """

    models: int
    concepts: int
    _keys: Array = field(init=False)
    _counts: Array = field(init=False)
    _waiting: list[tuple[Array, Array]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self._keys, self._counts = np.zeros((2, 0), dtype=np.int64)

    def add(self, concept: Array, pattern: Array) -> None:
        """Add tokens (n,): on each the set `pattern` fires, on `concept`."""
        keys, counts = np.unique((concept.astype(np.int64) << self.models) + pattern, return_counts=True)
        self._wait(keys, counts)

    def merge(self, other: Self) -> None:
        """Add the counts of other tokens."""
        self._wait(*other.table)

    @property
    def table(self) -> tuple[Array, Array]:
        """Keys and counts."""
        if self._waiting:
            self._keys, self._counts = _summed([(self._keys, self._counts), *self._waiting])
            self._waiting = []
        return self._keys, self._counts

    @property
    def rows(self) -> tuple[Array, Array, Array]:
        """Concept, set and tokens (n,), by concept and then set."""
        keys, counts = self.table
        return keys >> self.models, keys & ((1 << self.models) - 1), counts

    def together(self, members: Sequence[int]) -> Array:
        """(c,) tokens on which all `members`, at least one, fire, whatever the others do."""
        concept, pattern, counts = self.rows
        wanted = sum(1 << model for model in members)
        kept = pattern & wanted == wanted
        sums = np.bincount(concept[kept], weights=counts[kept], minlength=self.concepts)
        return np.asarray(sums.astype(np.int64))  # exact: float64 holds whole numbers to 2^53

    def _wait(self, keys: Array, counts: Array) -> None:
        """Sort into the table only when as much waits as it holds: all sorting stays linear in what comes."""
        self._waiting.append((keys, counts))
        if sum(len(each) for each, _ in self._waiting) > max(WAITING, len(self._keys)):
            self._keys, self._counts = self.table


def _summed(parts: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Increasing keys and the sums of their counts."""
    keys, counts = (np.concatenate(each) for each in zip(*parts, strict=True))
    order = np.argsort(keys, kind="stable")
    keys, counts = keys[order], counts[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[starts], np.add.reduceat(counts, starts) if len(starts) else counts
