"""Linear maps between models: the ceilings of every other method, and no concepts.

ridge: of any rank. rank-K: the best map of rank k, as many numbers a token as a code has. mcca-K: the first k
coordinates that all models share, read from one model and decoded by one map per target (`shared_coordinates`).
"""

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from usae.common.numerics.ridge import Products, ridge_r2, ridge_r2_others
from usae.common.numerics.shared_coordinates import SharedCoordinates, largest_value, shared_coordinates
from usae.common.seeds import generator
from usae.common.types import Array, Pair
from usae.methods.fitting.material import Material
from usae.methods.fitting.reading import Reading
from usae.methods.fitting.repairing import crossed, repaired_blocks
from usae.methods.runs.variants import START

BLOCK = "bounds"  # of the comparison: there are no concepts
REPAIRINGS = 20
QUANTILE = 0.95

Spans = Mapping[str, slice]


def fit(material: Material) -> list[Reading]:
    """Forms ridge, rank-K and, of several models, mcca-K. None under START: no SAE takes part."""
    if material.run == START:
        return []
    sums, spans = (*material.products, material.test), material.spans
    ridge = Reading("ridge", r2=ridge_r2(*sums, spans), others=ridge_r2_others(*sums, spans))
    reduced = Reading(f"rank-{material.k}", r2=ridge_r2(*sums, spans, material.k))
    return [ridge, reduced, *([_mcca(material)] if len(spans) > 1 else [])]


def _mcca(material: Material) -> Reading:
    fit, validation = material.products
    sums, spans, k = fit.merged(validation), material.spans, material.k
    covariance = sums.about(sums.mean)
    shared = shared_coordinates(covariance, spans)
    chance = float(np.quantile(_chance(material, sums, covariance), QUANTILE, method="higher"))
    numbers = {
        "shared_correlation_1": float(shared.correlations[0]),
        f"shared_correlation_{k}": float(shared.correlations[:k][-1]),
        "shared_dimensions": float((shared.values > chance).sum()),
    }
    return Reading(f"mcca-{k}", r2=shared_r2(shared, sums, material.test, spans, k), numbers=numbers)


def shared_r2(
    shared: SharedCoordinates, sums: Products, test: Products, spans: Spans, k: int
) -> dict[Pair, float]:
    """(source, target) -> R2 on `test` of the target's own decoder, from the source's first k coordinates.

    A target's decoder is fitted on `sums`, on the coordinates of all models, one model's tokens after another's.
    """
    covariance, around = sums.about(sums.mean), test.about(sums.mean)
    variances = np.diag(test.about(test.mean))
    first = {model: weights[:, :k] for model, weights in shared.weights.items()}
    square = sum(first[i].T @ covariance[spans[i], spans[i]] @ first[i] for i in spans)  # (k, k)
    values = {}
    for target, span in spans.items():
        cross = sum(first[i].T @ covariance[spans[i], span] for i in spans)  # (k, d_j)
        decoder = np.linalg.lstsq(square, cross, rcond=None)[0]
        for source, columns in spans.items():
            error = _error(around, columns, span, first[source] @ decoder)
            values[source, target] = 1 - error / float(variances[span].sum())
    return values


def _error(around: Array, source: slice, target: slice, weights: Array) -> float:
    """Squared error per token of a map (d_i, d_j) between columns of mean products (d, d)."""
    power = np.trace(around[target, target]) - 2 * (weights * around[source, target]).sum()
    return float(power + (weights * (around[source, source] @ weights)).sum())


def _chance(material: Material, sums: Products, covariance: Array) -> Array:
    """(REPAIRINGS,) the largest lambda where images are re-paired between all models."""
    spans, rng = material.spans, generator(material.seed, "re-paired images of shared coordinates")
    tokens = next(iter(material.stores.values())).tokens
    pairs = list(combinations(spans, 2))
    totals = [{(i, j): np.zeros_like(covariance[spans[i], spans[j]]) for i, j in pairs} for _ in range(REPAIRINGS)]
    for block in material.blocks():
        centre = sums.origin + sums.mean
        rows = {model: block[model] - centre[spans[model]].astype(np.float32) for model in spans}
        for total, moved in zip(totals, repaired_blocks(rows, tokens, rng, REPAIRINGS), strict=True):
            for i, j in pairs:
                total[i, j] += moved[i].T @ moved[j]
    means = [{pair: products / sums.count for pair, products in total.items()} for total in totals]
    return np.array([largest_value(crossed(covariance, mean, spans), spans) for mean in means])
