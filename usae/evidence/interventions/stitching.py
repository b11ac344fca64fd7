"""Stitching: does a readout of model j still work when it is shown j as model i's codes reconstruct it?

Table `stitching`. Readouts stay as they were trained, on j's own activations (Lenc and Vedaldi 2015, Bansal et al.
2021). The codes' way stands beside the best linear map from i to j, and beside independent SAEs whose concepts are
matched one to one by the correlation of their codes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from usae.activations.store import ActivationStore
from usae.common.numerics.correlation import CrossCorrelation
from usae.common.numerics.ranking import roc_auc
from usae.common.numerics.ridge import LinearMap
from usae.common.runtime.progress import progress
from usae.common.types import Array, Pair
from usae.evidence.codes.rows import code_rows
from usae.evidence.codes.store import CodeStore, aligned_chunks
from usae.evidence.interventions.readouts import Targets, mean_codes, through_decoder
from usae.evidence.metrics.reconstruction.passes import features
from usae.sae.universal import UniversalSAE

Stream = Literal["activations", "usae", "independent"]
Moments = tuple[Array, Array]  # means and standard deviations


@dataclass
class Route:
    """One way from model `source` to the readout of model `target`, and the scores it gave.

    stream: what of the source's images goes in, each image as a mean over its tokens.
    """

    method: str
    source: str
    target: str
    stream: Stream
    map: LinearMap
    scores: list[Array] = field(default_factory=list)
    hits: int = 0

    def update(self, shown: Any, carried: Array, exclusive: bool) -> None:
        """Add images: what goes in (n, units), labels carried (n, L). Classes are counted, other scores kept."""
        scores = self.map(shown)  # (images, labels)
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


def routes(
    sae: UniversalSAE,
    alone: Mapping[str, UniversalSAE],
    readouts: Mapping[str, LinearMap],
    translations: Mapping[Pair, LinearMap],
    matches: Mapping[Pair, LinearMap],
) -> list[Route]:
    """Every method between every two models, `clean` and `independent` of one model alone included.

    alone: the independent SAEs. translations: activations of i to those of j. matches: codes of i's independent
    SAE to those of j's (`matched_codes`).
    """
    found = [Route("clean", model, model, "activations", readout) for model, readout in readouts.items()]
    for source, target in product(readouts, repeat=2):
        shared = through_decoder(sae, target, readouts[target])
        found.append(Route("usae", source, target, "usae", shared))
        if source != target:
            translated = translations[source, target].then(readouts[target])
            found.append(Route("ridge", source, target, "activations", translated))
        own = through_decoder(alone[target], target, readouts[target])
        matched = own if source == target else matches[source, target].then(own)
        found.append(Route("independent", source, target, "independent", matched))
    return found


def run_routes(
    found: Sequence[Route],
    sae: UniversalSAE,
    stores: Mapping[str, ActivationStore],
    codes: Mapping[str, CodeStore],
    independent: Mapping[str, CodeStore],
    targets: Targets,
) -> pd.DataFrame:
    """Table `stitching`: all routes on the held-out images that are labelled, in one pass."""
    shown, models = [], list(stores)
    total = next(iter(codes.values())).chunks
    pairs: Iterable[Any] = zip(aligned_chunks(codes), aligned_chunks(independent), strict=True)
    for shared, alone in progress(pairs, total=total, description="stitching", unit="chunk"):
        places, carried = targets.of(shared[0].images)
        shown.append(carried)
        shows: dict[tuple[str, str], Any] = {}
        for number, model in enumerate(models):
            shows["usae", model] = mean_codes(shared[number], codes[model].concepts)[places]
            shows["independent", model] = mean_codes(alone[number], independent[model].concepts)[places]
            shows["activations", model] = features(sae, model, stores[model], shared[0].images)[places]
        for route in found:
            route.update(shows[route.stream, route.source], carried, targets.exclusive)
    return _frame(found, np.concatenate(shown), targets.exclusive)


def matched_codes(one: CodeStore, other: CodeStore) -> tuple[LinearMap, LinearMap]:
    """What the concepts of two SAEs say of each other, one to one: maps of codes (c,) there and back.

    Matched so that the sum of correlations is largest; each code is then the regression on its partner.
    """
    sums = CrossCorrelation(one.concepts, other.concepts)
    for left, right in zip(one, other, strict=True):
        sums.update(code_rows(left, one.concepts), code_rows(right, other.concepts))
    correlations = sums.correlations
    rows, columns = linear_sum_assignment(correlations, maximize=True)
    matched = correlations[rows, columns]
    ends = [_moments(part / sums.rows) for part in (sums.left_sums, sums.right_sums)]
    return _regressions(matched, rows, columns, *ends), _regressions(matched, columns, rows, *ends[::-1])


def _regressions(r: Array, own: Array, partner: Array, source: Moments, target: Moments) -> LinearMap:
    """Each code of the target from its partner among the source's; correlations r of own with partner."""
    spread = source[1][own]
    slopes = r * np.divide(target[1][partner], spread, out=np.zeros(len(own)), where=spread > 0)
    weights = sparse.csr_array((slopes, (own, partner)), shape=(len(source[0]), len(target[0])))
    offset = target[0].copy()
    offset[partner] -= slopes * source[0][own]
    return LinearMap(weights, offset)


def _moments(sums: Array) -> Moments:
    """Mean and standard deviation from means of values and of squares (2, c)."""
    return sums[0], np.sqrt(np.maximum(sums[1] - sums[0] ** 2, 0))


def _frame(found: Sequence[Route], carried: Array, exclusive: bool) -> pd.DataFrame:
    """Table `stitching`."""
    chance = float(carried.mean(axis=0).max()) if exclusive else 0.5
    values = {id(route): route.value(carried, exclusive) for route in found}
    clean = {route.target: values[id(route)] for route in found if route.method == "clean"}
    rows = []
    for route in found:
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
