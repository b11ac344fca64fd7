"""Units of different models that are each other's nearest by correlation (Rosetta neurons, Dravid et al. 2023).

Units are channels of activations, or concepts. Chance gives mutual nearest units too: read their number and
correlation beside those of images that are re-paired between models.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from usae.common.types import Array

NEAREST = 5


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

    `correlations` (left, right). 1: mutual nearest, the same from both sides; 5 is the variant of Dravid et al.
    Units that correlate with nothing (never change) have no buddy.
    """
    right = correlations.argmax(axis=1)  # (left)
    value = correlations[np.arange(len(right)), right]
    closer = (correlations[:, right] > value).sum(axis=0)  # units that are nearer to the right one
    left = np.flatnonzero((closer < nearest) & (value > 0))
    return Buddies(left, right[left], value[left])


def rosetta_units(correlations: Mapping[tuple[str, str], Array], models: tuple[str, ...]) -> Array:
    """(tuples, m) units that are mutual nearest in every pair of models; keys: pairs in the order of `models`."""
    first, *others = models
    buddies = {pair: best_buddies(correlations[pair]) for pair in combinations(models, 2)}
    maps = {pair: dict(np.column_stack([both.left, both.right]).tolist()) for pair, both in buddies.items()}
    tuples = []
    for unit in range(next(iter(correlations.values())).shape[0]):
        chain = {first: unit} | {other: maps[first, other].get(unit, -1) for other in others}
        if all(chain[one] >= 0 and maps[one, two].get(chain[one]) == chain[two] for one, two in maps):
            tuples.append([chain[model] for model in models])
    return np.array(tuples, dtype=np.int64).reshape(-1, len(models))
