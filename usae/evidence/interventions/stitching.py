"""Stitching: does a readout of model j still work on the reconstruction of j from the codes of model i?

Table `stitching`. Readouts are trained on j's own activations and stay as they are (Lenc and Vedaldi 2015, Bansal
et al. 2021). The universal codes are compared with the best linear map from i to j, and with independent SAEs
whose concepts are matched one to one by the correlation of their codes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from usae.activations.store import ActivationStore, image_spans
from usae.common.numerics.correlation import CrossCorrelation
from usae.common.numerics.partners import means_and_deviations, one_to_one, regression
from usae.common.numerics.ranking import roc_auc
from usae.common.numerics.ridge import LinearMap
from usae.common.runtime.progress import progress
from usae.common.types import Array, Pair
from usae.evidence.codes.encoding import code_chunk
from usae.evidence.codes.rows import code_rows
from usae.evidence.codes.store import CodeStore, aligned_chunks
from usae.evidence.interventions.readouts import Targets, mean_codes, through_decoder
from usae.evidence.metrics.reconstruction.passes import features
from usae.sae.estimator import Estimator

ACTIVATIONS, INDEPENDENT = "activations", "independent"  # streams, beside the names of universal SAEs
BLOCK_IMAGES = 64


@dataclass
class Route:
    """One way from the images of model `source` to the readout of model `target`, and its scores.

    stream: which codes, or ACTIVATIONS, of the source's images are the input of `map`, each image as the mean over
    its tokens.
    """

    method: str
    source: str
    target: str
    stream: str
    map: LinearMap
    scores: list[Array] = field(default_factory=list)
    hits: int = 0

    def update(self, inputs: Any, carried: Array, exclusive: bool) -> None:
        """Add images: their inputs (n, units) and labels (n, L). Of classes only the correct ones are counted."""
        scores = self.map(inputs)  # (images, labels)
        if exclusive:
            self.hits += int((scores.argmax(axis=1) == carried.argmax(axis=1)).sum())
        else:
            self.scores.append(scores.astype(np.float32))

    def value(self, carried: Array, exclusive: bool) -> float:
        """Accuracy of exclusive labels, else the mean over labels of the area under the ROC curve."""
        if exclusive:
            return self.hits / len(carried)
        scores = np.concatenate(self.scores)
        return float(np.mean([roc_auc(scores[:, label], carried[:, label]) for label in range(carried.shape[1])]))


def all_routes(
    universal: Mapping[str, Estimator],
    independent: Mapping[str, Estimator],
    readouts: Mapping[str, LinearMap],
    translations: Mapping[Pair, LinearMap],
    matches: Mapping[Pair, LinearMap],
) -> list[Route]:
    """Every method between every two models, `clean` and `independent` of one model alone included.

    universal: universal SAEs by name, a method each. independent: SAE of each model by itself. translations:
    activations of i to those of j. matches: codes of i's independent SAE to those of j's (`matched_codes`).
    """
    routes = [Route("clean", model, model, ACTIVATIONS, readout) for model, readout in readouts.items()]
    for source, target in product(readouts, repeat=2):
        for name, sae in universal.items():
            shared = through_decoder(sae, target, readouts[target])
            routes.append(Route(name, source, target, name, shared))
        if source != target:
            translated = translations[source, target].then(readouts[target])
            routes.append(Route("ridge", source, target, ACTIVATIONS, translated))
        own = through_decoder(independent[target], target, readouts[target])
        matched = own if source == target else matches[source, target].then(own)
        routes.append(Route(INDEPENDENT, source, target, INDEPENDENT, matched))
    return routes


def run_routes(
    routes: Sequence[Route],
    sae: Estimator,
    stores: Mapping[str, ActivationStore],
    codes: Mapping[str, Mapping[str, CodeStore]],
    targets: Targets,
) -> pd.DataFrame:
    """Table `stitching`: all routes on the held-out images that are labelled, in one pass.

    sae: whose units are those of all. codes: of each stream, by model.
    """
    labels, models = [], list(stores)
    total = next(iter(next(iter(codes.values())).values())).chunks
    streams: Iterable[Any] = zip(*(aligned_chunks(stream) for stream in codes.values()), strict=True)
    for chunks in progress(streams, total=total, description="stitching", unit="chunk"):
        images = chunks[0][0].images
        labelled, carried = targets.labelled_units(images)
        labels.append(carried)
        inputs: dict[tuple[str, str], Any] = {}
        for model in models:
            inputs[ACTIVATIONS, model] = features(sae, model, stores[model], images)[labelled]
        for (stream, by_model), of_models in zip(codes.items(), chunks, strict=True):
            for (model, store), chunk in zip(by_model.items(), of_models, strict=True):
                inputs[stream, model] = mean_codes(chunk, store.concepts)[labelled]
        for route in routes:
            route.update(inputs[route.stream, route.source], carried, targets.exclusive)
    return _frame(routes, np.concatenate(labels), targets.exclusive)


def matched_codes(
    independent: Mapping[str, Estimator], stores: Mapping[str, ActivationStore], images: int
) -> dict[Pair, LinearMap]:
    """(source, target) -> the codes (c,) of the target's own SAE predicted from those of the source's.

    Concepts are matched one to one, with the largest sum of correlations over the first `images` of `stores`. Each
    code is regressed on its match.
    """
    sums = {
        (one, other): CrossCorrelation(independent[one].concepts, independent[other].concepts)
        for one, other in combinations(independent, 2)
    }
    spans = image_spans(range(images), BLOCK_IMAGES)
    for span in progress(spans, total=len(spans), description="matches", unit="block"):
        rows = {model: _code_rows(sae, model, stores[model], span) for model, sae in independent.items()}
        for (one, other), pair in sums.items():
            pair.update(rows[one], rows[other])
    matches = {}
    for (one, other), pair in sums.items():
        partners, (left, right) = one_to_one(pair.correlations), means_and_deviations(pair)
        matches[one, other] = regression(partners, left, right)
        matches[other, one] = regression(partners.back, right, left)
    return matches


def _code_rows(sae: Estimator, model: str, store: ActivationStore, images: range) -> sparse.csr_array:
    """(images * tokens, c) codes, rounded as stored ones are."""
    return code_rows(code_chunk(sae, model, store.take(images), np.asarray(images), sae.device), sae.concepts)


def _frame(routes: Sequence[Route], carried: Array, exclusive: bool) -> pd.DataFrame:
    """Table `stitching`."""
    chance = float(carried.mean(axis=0).max()) if exclusive else 0.5
    values = {id(route): route.value(carried, exclusive) for route in routes}
    clean = {route.target: values[id(route)] for route in routes if route.method == "clean"}
    rows = []
    for route in routes:
        value, gain = values[id(route)], clean[route.target] - chance
        rows.append(
            {
                "method": route.method,
                "source": route.source,
                "target": route.target,
                "score": "accuracy" if exclusive else "auc",
                "value": value,
                "clean": clean[route.target],
                "chance": chance,
                "recovered": (value - chance) / gain if gain > 0 else np.nan,
                "labels": carried.shape[1],
                "images": len(carried),
            }
        )
    return pd.DataFrame(rows)
