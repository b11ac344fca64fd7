"""The concepts of one model's SAE as an atlas of the others, by linear translators of activations.

Model i's tokens are translated to the atlas model's activations and read by its encoder; its concepts are
translated back to model j's activations (after Atlas-Alignment, arXiv 2510.27413).
"""

from collections.abc import Callable, Mapping
from itertools import permutations

import numpy as np
import torch

from usae.activations.store import image_spans
from usae.common.numerics.correlation import CrossCorrelation
from usae.common.numerics.matching import unit
from usae.common.numerics.procrustes import procrustes
from usae.common.numerics.ridge import LinearMap, ridge_map
from usae.common.seeds import generator
from usae.common.types import Array, Pair
from usae.evidence.metrics.reconstruction.passes import standardised
from usae.methods.fitting.affine import AffineSAE
from usae.methods.fitting.by_label import label_numbers, ranks
from usae.methods.fitting.label_tokens import LabelSplits, label_tokens
from usae.methods.fitting.material import BLOCK_IMAGES, Material
from usae.methods.fitting.own import own_codes, own_decoder, through, unit_rows
from usae.methods.fitting.reading import Reading
from usae.methods.fitting.units import drawn_rows

FIRST = 5  # of a ranking
TOKENS = 2048  # of training, by which the atlas model is chosen

Translate = Callable[[Material, str, str], LinearMap]


def fit(material: Material) -> list[Reading]:
    """Forms procrustes and ridge, each with the atlas model that serves it best. Empty for one model alone."""
    if len(material.models) < 2:
        return []
    rows = drawn_rows(material, TOKENS, generator(material.seed, "tokens to choose an atlas by"))
    translators: Mapping[str, Translate] = {"procrustes": _procrustes, "ridge": _ridge}
    labelled = label_tokens(material)
    return [_reading(form, material, translate, rows, labelled) for form, translate in translators.items()]


def _reading(
    form: str, material: Material, translate: Translate, rows: Mapping[str, Array], labelled: LabelSplits | None
) -> Reading:
    maps = {pair: translate(material, *pair) for pair in permutations(material.models, 2)}
    atlases = {hub: _concepts(material, hub, maps) for hub in material.models}
    hub = max(atlases, key=lambda model: cross_r2(atlases[model], rows))
    numbers = retrieval(material, hub, maps) | {"hub": float(material.models.index(hub))}
    if labelled:
        numbers |= label_numbers(material, hub, atlases[hub], labelled)
    return Reading(form, atlases[hub], numbers=numbers)


def _concepts(material: Material, hub: str, maps: Mapping[Pair, LinearMap]) -> AffineSAE:
    others = [model for model in material.models if model != hub]
    decoders = {model: own_decoder(material, hub).then(maps[hub, model]) for model in others}
    return through(material, hub, {model: maps[model, hub] for model in others}, decoders)


@torch.inference_mode()
def cross_r2(concepts: AffineSAE, rows: Mapping[str, Array]) -> float:
    """Mean over pairs of models of R2 about the channel means, of standardised tokens (n, d) of each."""
    codes = {}
    for model, own in rows.items():
        pre = concepts.encoders[model](own).astype(np.float32)
        codes[model] = concepts.levels.top_k(torch.from_numpy(pre).to(concepts.device))
    errors = {
        (source, target): rows[target] - concepts.decode(target, codes[source]).cpu().numpy()
        for source, target in permutations(rows, 2)
    }
    spread = {model: float(np.square(own - own.mean(axis=0)).sum()) for model, own in rows.items()}
    return float(np.mean([1 - np.square(error).sum() / spread[target] for (_, target), error in errors.items()]))


def _procrustes(material: Material, source: str, target: str) -> LinearMap:
    fit, validation = material.products
    return procrustes(fit.merged(validation), material.spans[source], material.spans[target])


def _ridge(material: Material, source: str, target: str) -> LinearMap:
    return ridge_map(*material.products, material.spans[source], material.spans[target])


def retrieval(material: Material, hub: str, maps: Mapping[Pair, LinearMap]) -> dict[str, float]:
    """Is a concept's direction, translated, nearest to its true partner's among those of the model's own SAE?

    Means over concepts and models of its reciprocal rank, of whether it is first and among the first FIRST, and of
    the share of other concepts that are farther (the area under the ROC curve), each with what chance gives.
    """
    others = [model for model in material.models if model != hub]
    correlations = {model: held_out_correlations(material, hub, model) for model in others}
    ranks = np.concatenate([_ranks(material, hub, m, maps[hub, m], r) for m, r in correlations.items()])
    c = np.concatenate([np.full(int((r.max(axis=1) > 0).sum()), r.shape[1]) for r in correlations.values()])
    harmonic = {size: (1 / np.arange(1, size + 1)).sum() for size in set(c.tolist())}
    values = {
        "retrieval_mrr": 1 / ranks,
        "retrieval_top_1": ranks == 1,
        f"retrieval_top_{FIRST}": ranks <= FIRST,
        "retrieval_auc": (c - ranks) / np.maximum(c - 1, 1),
        "retrieval_mrr_chance": np.array([harmonic[size] / size for size in c.tolist()]),
        "retrieval_top_1_chance": 1 / c,
        f"retrieval_top_{FIRST}_chance": np.minimum(FIRST / c, 1),
    }
    return {name: float(np.mean(each)) if len(c) else float("nan") for name, each in values.items()}


def _ranks(material: Material, hub: str, model: str, translation: LinearMap, correlations: Array) -> Array:
    """(concepts,) place of the true partner, 1 the nearest; of the hub's concepts that have a partner."""
    translated = unit_rows(material.alone[hub], hub) @ translation.weights
    cosines = unit(translated) @ unit_rows(material.alone[model], model).T  # (c, c)
    known = np.flatnonzero(correlations.max(axis=1) > 0)
    return ranks(cosines[known], correlations[known].argmax(axis=1))


def held_out_correlations(material: Material, hub: str, model: str) -> Array:
    """(c, c) of the held-out codes of the hub's SAE with those of a model's own: the largest is the partner's."""
    sums = CrossCorrelation(material.alone[hub].concepts, material.alone[model].concepts)
    stores = {each: material.held_out[each] for each in (hub, model)}
    for span in image_spans(range(min(store.images for store in stores.values())), BLOCK_IMAGES):
        rows = {
            each: standardised(material.units, each, store, np.asarray(span)) for each, store in stores.items()
        }
        one, other = (own_codes(material, each, part.reshape(-1, part.shape[-1])) for each, part in rows.items())
        sums.update(one, other)
    return sums.correlations
