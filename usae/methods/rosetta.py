"""Channels of different models that are each other's nearest by correlation (Rosetta neurons, Dravid et al. 2023).

No SAE takes part: a concept is a tuple of channels, one of each model. It fires where the channel is above a high
percentile of its training tokens, as often as a code of the SAEs is above 0 if all concepts are alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from usae.common.numerics.ridge import Products, explained
from usae.common.seeds import generator
from usae.common.types import Array, Pair
from usae.evidence.metrics.alignment.buddies import NEAREST, best_buddies, rosetta_units
from usae.methods.fitting.material import Material
from usae.methods.fitting.reading import Reading
from usae.methods.fitting.units import InUnits, drawn_rows
from usae.methods.runs.variants import START
from usae.sae.sparse import SparseCodes, sparse_decode, top_k

TOKENS = 20_000  # drawn, of which the percentiles are
DRAWS = 20  # of random channels

Channels = Mapping[str, Array]  # model -> (tuples,) a channel each
Correlations = Mapping[Pair, Array]


@dataclass(frozen=True, kw_only=True)
class RosettaUnits(InUnits):
    """A code is a channel in its standard deviations from its mean, 0 where it does not fire.

    channels: model -> (c,). bars: model -> (c,) what a firing channel exceeds, in standard deviations. means,
    stds: model -> (d,) of standardised tokens.
    """

    channels: Channels
    bars: Mapping[str, Array]
    means: Mapping[str, Array]
    stds: Mapping[str, Array]

    def encode(self, tokens: Mapping[str, Float[Tensor, "... _"]]) -> dict[str, SparseCodes]:
        """See `Concepts`: of each model from itself alone."""
        return {model: self._fires(model, self.standardise(model, raw)) for model, raw in tokens.items()}

    def decode(self, model: str, codes: SparseCodes) -> Float[Tensor, "... d"]:
        """The channels that fire at their codes, all others at their mean."""
        spread = self.tensor(self.stds[model])
        return sparse_decode(codes, self.dictionary(model) * spread) + self.tensor(self.means[model])

    def dictionary(self, model: str) -> Float[Tensor, "c d"]:
        """The channels."""
        return self.tensor(np.eye(self.widths[model])[self.channels[model]])

    def _fires(self, model: str, rows: Tensor) -> SparseCodes:
        channels = self.channels[model]
        centred = rows[..., torch.from_numpy(channels).to(self.device)] - self.tensor(self.means[model][channels])
        values = centred / self.tensor(self.stds[model][channels])
        return top_k(torch.where(values > self.tensor(self.bars[model]), values, 0.0), self.k)


def fit(material: Material) -> list[Reading]:
    """Forms cliques, channels that are mutual nearest in every pair of models, and published, the paper's rule.

    Empty under START, and for one model alone.
    """
    if material.run == START or len(material.models) < 2:
        return []
    fit, validation = material.products
    correlations = channel_correlations(fit.merged(validation), material.spans)
    by_hub = [published(correlations, material.models, hub) for hub in material.models]
    counts = {"tuples_least_hub": float(min(map(len, by_hub))), "tuples_most_hub": float(max(map(len, by_hub)))}
    tuples = {
        "cliques": (rosetta_units(correlations, material.models), {}),
        "published": (max(by_hub, key=len), counts),
    }
    rows = drawn_rows(material, TOKENS, generator(material.seed, "tokens of channels"))
    return [_reading(form, material, found, correlations, rows, more) for form, (found, more) in tuples.items()]


def channel_correlations(sums: Products, spans: Mapping[str, slice]) -> dict[Pair, Array]:
    """(d_i, d_j) of every two models, both ways; 0 where a channel never changes."""
    covariance = sums.about(sums.mean)
    std = np.sqrt(np.maximum(np.diag(covariance), 0))
    inverse = np.divide(1, std, out=np.zeros(len(std)), where=std > 0)
    scaled = covariance * np.outer(inverse, inverse)
    return {(i, j): scaled[spans[i], spans[j]] for i, j in permutations(spans, 2)}


def published(correlations: Correlations, models: tuple[str, ...], hub: str, nearest: int = NEAREST) -> Array:
    """(tuples, m) a channel of the hub and in every other model its nearest, of whose `nearest` it is one."""
    others = {model: best_buddies(correlations[hub, model], nearest) for model in models if model != hub}
    maps = {m: dict(zip(each.left.tolist(), each.right.tolist(), strict=True)) for m, each in others.items()}
    shared = sorted(set.intersection(*(set(each) for each in maps.values())))
    tuples = [[unit if model == hub else maps[model][unit] for model in models] for unit in shared]
    return np.array(tuples, dtype=np.int64).reshape(-1, len(models))


def _reading(
    form: str,
    material: Material,
    tuples: Array,
    correlations: Correlations,
    rows: Mapping[str, Array],
    numbers: Mapping[str, float],
) -> Reading:
    numbers = {"tuples": float(len(tuples)), **numbers}
    if not len(tuples):
        return Reading(form, numbers=numbers)
    channels = dict(zip(material.models, tuples.T, strict=True))
    pairs = [correlations[i, j][channels[i], channels[j]] for i, j in permutations(channels, 2)]
    return Reading(
        form,
        _concepts(material, channels, rows),
        r2_of(material, channels),
        _others(material, channels),
        {**numbers, "tuples_r": float(np.mean(pairs)), **_random(material, form, len(tuples))},
    )


def _concepts(material: Material, channels: Channels, rows: Mapping[str, Array]) -> RosettaUnits:
    density = material.k / material.units.concepts
    means = {model: each.mean(axis=0, dtype=np.float64) for model, each in rows.items()}
    stds = {model: each.std(axis=0, dtype=np.float64) for model, each in rows.items()}
    bars, most = {}, 1
    for model, own in channels.items():
        values = (rows[model][:, own] - means[model][own]) / np.where(stds[model][own] > 0, stds[model][own], 1)
        bars[model] = np.maximum(np.quantile(values, 1 - density, axis=0), 0)
        most = max(most, int((values > bars[model]).sum(axis=1).max()))
    return RosettaUnits(
        units=material.units,
        models=material.models,
        concepts=len(next(iter(channels.values()))),
        k=most,
        device=material.device,
        channels=channels,
        bars=bars,
        means=means,
        stds=stds,
    )


def r2_of(material: Material, channels: Channels) -> dict[Pair, float]:
    """(source, target) -> held-out R2 of all channels of the target by ridge from these channels of the source."""
    sums, spans = (*material.products, material.test), material.spans
    return {
        (source, target): value
        for source, own in channels.items()
        for target, value in explained(*sums, spans[source].start + np.unique(own), spans).items()
    }


def _others(material: Material, channels: Channels) -> dict[str, float]:
    """Target -> the same from the channels of all other models."""
    sums, spans = (*material.products, material.test), material.spans
    columns = {model: spans[model].start + np.unique(own) for model, own in channels.items()}
    values: dict[str, float] = {}
    for target, span in spans.items():
        others = np.concatenate([columns[model] for model in spans if model != target])
        values |= explained(*sums, others, {target: span})
    return values


def _random(material: Material, form: str, count: int) -> dict[str, float]:
    """Mean R2 of as many random channels of each model, a model of itself and of another one."""
    rng = generator(material.seed, "random channels", form)
    widths = {model: store.width for model, store in material.stores.items()}
    draws = [{m: rng.permutation(d)[:count] for m, d in widths.items()} for _ in range(DRAWS)]
    r2 = [r2_of(material, channels) for channels in draws]
    of = {"r2_self_random": True, "r2_cross_random": False}
    return {
        name: float(np.mean([value for each in r2 for (i, j), value in each.items() if (i == j) == own]))
        for name, own in of.items()
    }
