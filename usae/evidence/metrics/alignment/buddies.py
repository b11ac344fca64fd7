"""Units of different models that are each other's nearest by correlation (Rosetta neurons, Dravid et al. 2023).

Units are channels of activations, or concepts. Chance gives mutual nearest units too: read their number and
correlation beside those of images that are re-paired between models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from usae.common.types import Array, Pair

NEAREST = 5
BLOCK_UNITS = 512  # of the left side, looked at at once


@dataclass(frozen=True)
class Buddies:
    """Pairs of units: left, right (pairs,) and their correlation."""

    left: Array
    right: Array
    correlation: Array

    @property
    def median(self) -> float:
        """Median correlation; 0 without pairs."""
        return float(np.median(self.correlation)) if len(self.correlation) else 0.0


def best_buddies(correlations: Array, nearest: int = 1) -> Buddies:
    """Pairs of which the right unit is the left one's nearest, and the left one among the right's `nearest`.

    `correlations` (left, right). 1: mutual nearest, one to one and the same from both sides: of units that are
    equally near the first counts. 5 is the variant of Dravid et al. Units that correlate with nothing (never
    change) have no buddy.
    """
    return buddies_of(correlations, [nearest])[0]


def buddies_of(correlations: Array, nearest: Sequence[int]) -> list[Buddies]:
    """`best_buddies` for each number of nearest units, by one look at the correlations."""
    right = correlations.argmax(axis=1)  # (left)
    value = correlations[np.arange(len(right)), right]
    back, closer = _nearest_left(correlations), np.zeros(len(right), dtype=np.int64)
    if max(nearest) > 1:
        for start in range(0, len(right), BLOCK_UNITS):  # units that are nearer to the right one
            closer += (correlations[start : start + BLOCK_UNITS][:, right] > value).sum(axis=0)
    among = (back[right] == np.arange(len(right)) if most == 1 else closer < most for most in nearest)
    kept = [np.flatnonzero(each & (value > 0)) for each in among]
    return [Buddies(left, right[left], value[left]) for left in kept]


def _nearest_left(correlations: Array) -> Array:
    """(right,) the first of the nearest left units; row by row, as `argmax` of columns takes 16 times as long."""
    right = correlations.shape[1]
    best, found = np.full(right, -np.inf, correlations.dtype), np.zeros(right, np.int64)
    for left, row in enumerate(correlations):
        found[row > best] = left
        np.maximum(best, row, out=best)
    return found


def rosetta_units(correlations: Mapping[Pair, Array], models: tuple[str, ...]) -> Array:
    """(tuples, m) units that are mutual nearest in every pair of models; keys: pairs in the order of `models`."""
    return cliques({pair: best_buddies(correlations[pair]) for pair in combinations(models, 2)}, models)


def cliques(buddies: Mapping[Pair, Buddies], models: tuple[str, ...]) -> Array:
    """(tuples, m) units of which every two are mutual nearest; keys: pairs in the order of `models`."""
    first, second, *_ = models
    maps = {pair: dict(np.column_stack([both.left, both.right]).tolist()) for pair, both in buddies.items()}
    tuples = []
    for unit in maps[first, second]:
        chain = {first: unit} | {other: maps[first, other].get(unit, -1) for other in models[1:]}
        if all(chain[one] >= 0 and maps[one, two].get(chain[one]) == chain[two] for one, two in maps):
            tuples.append([chain[model] for model in models])
    return np.array(tuples, dtype=np.int64).reshape(-1, len(models))
