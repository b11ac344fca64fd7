"""Which coarse concept a finer one refines, by the tokens on which both fire (stage `measure`).

A concept of a level after the first goes best with the concept of the level before whose fires correlate most with
its own: the largest phi coefficient over the tokens of all models together. Counts are whole numbers, so phi is
above 0 exactly where the two fire together more often than independent ones would.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Self

import numpy as np
import pandas as pd

from usae.common.types import Array
from usae.evidence.codes.rows import fired_rows
from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.firing.counts import FiringCounts


@dataclass
class Refinement:
    """Tokens on which a concept and one of the level before both fire in a model, summed over models.

    ends: concepts of the levels up to each one. cofires: for each level but the first, (its concepts, those of the
    level before): all the memory, whatever the number of images. What fires is `codes.rows.fired`.
    """

    ends: Sequence[int]
    threshold: float
    cofires: list[Array] = field(init=False)

    def __post_init__(self) -> None:
        self.cofires = [
            np.zeros((own.stop - own.start, before.stop - before.start), dtype=np.int64)
            for before, own in self._steps
        ]

    def update(self, codes: Sequence[CodeChunk]) -> None:
        """Add one chunk: the codes of every model for the same images."""
        if len(self.ends) == 1:
            return
        for chunk in codes:
            fires = fired_rows(chunk, self.ends[-1], self.threshold)  # (images * tokens, concepts)
            for cofires, (before, own) in zip(self.cofires, self._steps, strict=True):
                cofires += (fires[:, own].T @ fires[:, before]).toarray()

    def merge(self, other: Self) -> None:
        """Add the counts of other images."""
        for cofires, others in zip(self.cofires, other.cofires, strict=True):
            cofires += others

    def columns(self, firing: FiringCounts) -> pd.DataFrame:
        """Columns `level`, `refines` and `refines_phi` of table `concepts`; `firing`: of the same images."""
        fires, tokens = firing.fires.sum(axis=0), firing.models * firing.tokens
        refines, largest = np.full(self.ends[-1], -1), np.full(self.ends[-1], np.nan)
        for cofires, (before, own) in zip(self.cofires, self._steps, strict=True):
            phis = phi(cofires, fires[own], fires[before], tokens)
            clear = phis.max(axis=1) > 0
            refines[own] = np.where(clear, before.start + phis.argmax(axis=1), -1)
            largest[own] = np.where(clear, phis.max(axis=1), np.nan)
        parents = pd.Series(refines, dtype="Int32").replace(-1, pd.NA)
        return pd.DataFrame({"level": levels_of(self.ends), "refines": parents, "refines_phi": largest})

    @property
    def _steps(self) -> list[tuple[slice, slice]]:
        """The concepts of each level and of the one after it."""
        return list(pairwise(slice(*edge) for edge in pairwise((0, *self.ends))))


def levels_of(ends: Sequence[int]) -> Array:
    """(c,) the level of each concept, 1 = coarsest; `ends`: concepts of the levels up to each one."""
    return np.repeat(np.arange(1, len(ends) + 1), np.diff((0, *ends)))


def phi(both: Array, one: Array, other: Array, tokens: int) -> Array:
    """(a, b) correlation of fires: `both` (a, b) tokens on which both fire, `one` (a,) and `other` (b,) on which
    each does. 0 where one of them fires on no token, or on all.
    """
    covariance = tokens * both - np.outer(one, other)  # times tokens squared, a whole number
    spread = np.outer(*(np.sqrt(fires * (tokens - fires)) for fires in (one, other)))
    return np.asarray(np.divide(covariance, spread, out=np.zeros(spread.shape), where=spread > 0))
