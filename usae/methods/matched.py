"""SAEs of one model each, their concepts matched after training by the correlation of their codes.

One model is the hub: it has the largest mean correlation with its partners. A concept has the hub's number, and
every other model's partner of it. Partners that correlate no more than re-paired images do are none. A concept of
another model that is nobody's partner keeps a number of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from usae.common.numerics.partners import (
    Partners,
    nearest,
    one_to_one,
    regression,
    weighted_nearest,
)
from usae.common.types import Array, Pair
from usae.evidence.metrics.alignment.buddies import best_buddies
from usae.methods.fitting.matches import CodeMatches
from usae.methods.fitting.material import Material
from usae.methods.fitting.own import gain, own_decoder
from usae.methods.fitting.reading import Reading
from usae.methods.fitting.units import InUnits
from usae.sae.levels import Levels
from usae.sae.sparse import SparseCodes, sparse_decode
from usae.sae.universal import UniversalSAE

HIGH = {"matched_share_50": 0.5, "matched_share_70": 0.7}


@dataclass(frozen=True, kw_only=True)
class MatchedSAEs(InUnits):
    """alone: SAE of each model by itself. gains: what their codes are divided by. own: model -> (concepts,) the
    concept of its own SAE, -1 where it has none; numbers: model -> (c,) the way back.

    slopes: (source, target) -> (concepts,) by which a code of the source gives the target's, and offsets: (d_j,)
    what the target's mean codes add to that.
    """

    alone: Mapping[str, UniversalSAE]
    gains: Mapping[str, float]
    own: Mapping[str, Array]
    numbers: Mapping[str, Array]
    slopes: Mapping[Pair, Array]
    offsets: Mapping[Pair, Array]

    @property
    def levels(self) -> Levels:
        """Of the common numbers, which have none of their own: one."""
        return Levels((self.concepts,), self.k)

    def pre_codes(self, model: str, tokens: Float[Tensor, "... d"]) -> Float[Tensor, "... c"]:
        """Codes in the common numbers, 0 for all others: what several models' are averaged of."""
        return self._encoded(model, tokens).dense(self.concepts)

    def encode(self, tokens: Mapping[str, Float[Tensor, "... _"]]) -> dict[str, SparseCodes]:
        """See `Concepts`: the codes of the model's own SAE, in the common numbers."""
        return {model: self._encoded(model, raw) for model, raw in tokens.items()}

    def decode(self, model: str, codes: SparseCodes) -> Float[Tensor, "... d"]:
        """By the model's own SAE; concepts that it does not have add nothing."""
        own = self._at(self.own[model], codes.indices)
        values = torch.where(own >= 0, codes.values, 0.0) * self.gains[model]
        return sparse_decode(SparseCodes(own.clamp_min(0), values), self._rows(model))

    def translate(self, source: str, target: str, codes: SparseCodes) -> Float[Tensor, "... d"]:
        """See `Translator`: the target's codes as each of them is regressed on its partner."""
        if source == target:
            return self.decode(target, codes)
        slopes = self.tensor(self.slopes[source, target])[codes.indices]
        predicted = self.decode(target, SparseCodes(codes.indices, codes.values * slopes))
        return predicted + self.tensor(self.offsets[source, target])

    def dictionary(self, model: str) -> Float[Tensor, "c d"]:
        """See `Concepts`; a concept that a model does not have stays 0."""
        own = torch.from_numpy(self.own[model]).to(self.device)
        return torch.where(own[:, None] >= 0, self._rows(model)[own.clamp_min(0)], 0.0)

    def _encoded(self, model: str, raw: Tensor) -> SparseCodes:
        codes = self.alone[model].to(self.device).encode({model: raw})[model]
        return SparseCodes(self._at(self.numbers[model], codes.indices), codes.values / self.gains[model])

    def _rows(self, model: str) -> Tensor:
        return self.alone[model].to(self.device).dictionary(model)

    def _at(self, table: Array, indices: Tensor) -> Tensor:
        return torch.from_numpy(table).to(self.device)[indices]


def fit(material: Material) -> list[Reading]:
    """Forms hungarian, all concepts one to one, and mutual, those that are each other's nearest.

    Empty for one model alone.
    """
    if len(material.models) < 2:
        return []
    matches = CodeMatches.of(material)
    everyone = matches.partners(one_to_one)
    hub = max(material.models, key=lambda model: _mean_r(everyone, model))
    rules = {"hungarian": everyone, "mutual": matches.partners(mutual)}
    return [
        Reading(form, _concepts(material, matches, hub, partners), numbers=_numbers(matches, hub, partners))
        for form, partners in rules.items()
    ]


def mutual(correlations: Array) -> Partners:
    """Units that are each other's nearest."""
    buddies = best_buddies(correlations)
    return Partners(buddies.left, buddies.right, buddies.correlation)


def _concepts(
    material: Material, matches: CodeMatches, hub: str, partners: Mapping[Pair, Partners]
) -> MatchedSAEs:
    own = renumbered({m: sae.concepts for m, sae in material.alone.items()}, hub, _kept(matches, hub, partners))
    slopes, offsets = {}, {}
    for i, j in permutations(material.models, 2):
        slopes[i, j], offsets[i, j] = _translation(material, matches, own, i, j)
    return MatchedSAEs(
        units=material.units,
        models=material.models,
        concepts=len(own[hub]),
        k=material.k,
        device=material.device,
        alone=material.alone,
        gains={model: gain(material, model) for model in material.models},
        own=own,
        numbers={model: _way_back(each) for model, each in own.items()},
        slopes=slopes,
        offsets=offsets,
    )


def renumbered(sizes: Mapping[str, int], hub: str, kept: Mapping[str, Partners]) -> dict[str, Array]:
    """Model -> (concepts,) the concept of its own SAE, -1 for none. The hub's come first, in their order.

    sizes: concepts of each SAE. kept: of every other model, pairs of a concept of the hub and its partner.
    """
    alone = {m: np.setdiff1d(np.arange(sizes[m]), pairs.partner) for m, pairs in kept.items()}
    total = sizes[hub] + sum(map(len, alone.values()))
    own = {model: np.full(total, -1) for model in sizes}
    own[hub][: sizes[hub]] = np.arange(sizes[hub])
    start = sizes[hub]
    for model, pairs in kept.items():
        own[model][pairs.own] = pairs.partner
        own[model][start : start + len(alone[model])] = alone[model]
        start += len(alone[model])
    return own


def _way_back(own: Array) -> Array:
    """(c,) the number of each concept of an SAE."""
    numbers = np.empty(int((own >= 0).sum()), dtype=np.int64)
    numbers[own[own >= 0]] = np.flatnonzero(own >= 0)
    return numbers


def _translation(
    material: Material, matches: CodeMatches, own: Mapping[str, Array], source: str, target: str
) -> tuple[Array, Array]:
    """Slopes (concepts,) and offset (d_j,), see `MatchedSAEs`."""
    both = np.flatnonzero((own[source] >= 0) & (own[target] >= 0))
    left, right = own[source][both], own[target][both]
    r = matches.correlations(source, target, matches.true)[left, right]
    moments = matches.moments()
    codes = regression(Partners(left, right, r), moments[source], moments[target])
    slopes = np.zeros(len(own[source]))
    slopes[both] = np.asarray(codes.weights.tocsr()[left, right]).ravel()
    return slopes, codes.then(own_decoder(material, target)).offset


def _kept(matches: CodeMatches, hub: str, partners: Mapping[Pair, Partners]) -> dict[str, Partners]:
    """Model -> the pairs of the hub with it that correlate more than re-paired images do."""
    others = [model for model in matches.models if model != hub]
    return {model: partners[hub, model].above(matches.bar(hub, model)) for model in others}


def _mean_r(partners: Mapping[Pair, Partners], hub: str) -> float:
    """Mean matched correlation of a hub, over the other models."""
    means = [each.r.mean() for (one, _), each in partners.items() if one == hub and len(each.r)]
    return float(np.mean(means)) if means else 0.0


def _numbers(matches: CodeMatches, hub: str, partners: Mapping[Pair, Partners]) -> dict[str, float]:
    """What the literature gives of matched SAEs, of the hub chosen, and the range over hubs."""
    kept = {model: _kept(matches, model, partners) for model in matches.models}
    r = np.concatenate([each.r for (one, _), each in partners.items() if one == hub])
    by_hub: dict[str, list[float]] = {
        "matched_r": [_mean_r(partners, model) for model in matches.models],
        "matched_in_all": [_in_all(each) for each in kept.values()],
    }
    place = matches.models.index(hub)
    numbers = {name: float(values[place]) for name, values in by_hub.items()}
    numbers |= {f"{name}_least_hub": float(min(values)) for name, values in by_hub.items()}
    numbers |= {f"{name}_most_hub": float(max(values)) for name, values in by_hub.items()}
    numbers |= {name: float((r > least).mean()) if len(r) else 0.0 for name, least in HIGH.items()}
    numbers["matched_pairs"] = float(np.mean([len(each.own) for each in kept[hub].values()]))
    numbers["matched_bar"] = float(np.mean([matches.bar(hub, model) for model in kept[hub]]))
    return numbers | _of_nearest(matches, hub)


def _of_nearest(matches: CodeMatches, hub: str) -> dict[str, float]:
    """Numbers of the rule argmax, by which several concepts may have one partner; means over the other models."""
    others = [matches.correlations(hub, model, matches.true) for model in matches.models if model != hub]
    masses = matches.moments()[hub][0]
    partners = [nearest(correlations) for correlations in others]
    return {
        "nearest_r": float(np.mean([each.r.mean() for each in partners])),
        "nearest_distinct_share": float(np.mean([len(set(each.partner)) / len(each.own) for each in partners])),
        "nearest_r_by_mass": float(np.mean([weighted_nearest(each, masses) for each in others])),
    }


def _in_all(kept: Mapping[str, Partners]) -> int:
    """Concepts of the hub that have a partner in every other model."""
    return len(set.intersection(*(set(pairs.own.tolist()) for pairs in kept.values())))
