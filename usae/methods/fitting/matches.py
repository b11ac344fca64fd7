"""Correlations of the training codes of every two models' own SAEs, and what re-paired images give."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from usae.common.numerics.correlation import CrossCorrelation
from usae.common.numerics.partners import MeanStd, Partners, means_and_deviations
from usae.common.seeds import generator
from usae.common.types import Array, Pair
from usae.methods.fitting.material import Material
from usae.methods.fitting.own import code_blocks
from usae.methods.fitting.repairing import repaired_blocks
from usae.methods.fitting.units import tokens_of

QUANTILE = 0.95  # of the largest correlation of a concept with any other where images are re-paired

ByPair = Mapping[Pair, CrossCorrelation]


@dataclass(frozen=True)
class CodeMatches:
    """Correlations of training codes. true, chance: by pair of models in order, with the images as they are and
    re-paired.
    """

    models: tuple[str, ...]
    true: ByPair
    chance: ByPair

    @classmethod
    def of(cls, material: Material) -> "CodeMatches":
        """Of the training codes of all models' own SAEs."""
        c = {model: sae.concepts for model, sae in material.alone.items()}
        pairs = list(combinations(material.models, 2))
        true, chance = ({(i, j): CrossCorrelation(c[i], c[j]) for i, j in pairs} for _ in range(2))
        rng, tokens = generator(material.seed, "re-paired images of matched codes"), tokens_of(material)
        for block in code_blocks(material):
            (moved,) = repaired_blocks(block, tokens, rng, 1)
            for i, j in pairs:
                true[i, j].update(block[i], block[j])
                chance[i, j].update(moved[i], moved[j])
        return cls(material.models, true, chance)

    def correlations(self, one: str, other: str, by: ByPair) -> Array:
        """(c, c) of two models in either order."""
        return by[one, other].correlations if (one, other) in by else by[other, one].correlations.T

    def bar(self, hub: str, model: str) -> float:
        """What a concept of the hub reaches with its nearest one of a model where images are re-paired."""
        largest = self.correlations(hub, model, self.chance).max(axis=1)
        return float(np.quantile(largest[largest > 0], QUANTILE)) if (largest > 0).any() else 0.0

    def partners(self, rule: Callable[[Array], Partners]) -> dict[Pair, Partners]:
        """Of all ordered pairs of models, by a rule that treats both sides alike."""
        pairs = {pair: rule(sums.correlations) for pair, sums in self.true.items()}
        return pairs | {(j, i): partners.back for (i, j), partners in pairs.items()}

    def moments(self) -> dict[str, MeanStd]:
        """Of every model's codes."""
        sides = {pair: means_and_deviations(sums) for pair, sums in self.true.items()}
        return {model: side for pair, both in sides.items() for model, side in zip(pair, both, strict=True)}
