"""Ridge regression from thousands of columns, such as all concepts, by Cholesky factors.

Stages `onboarding` and `compare`. The maps are those of `ridge.py`. There one eigendecomposition serves all
penalties, at some 9 c^3 operations for c columns. Here each penalty that is tried costs a factorisation, c^3 / 3,
and a few are enough: the error on the validation tokens falls towards the best penalty and rises beyond it, so the
search walks downhill.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import cast

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from usae.common.numerics.ridge import PENALTIES, LinearMap, Products, Spans
from usae.common.runtime.progress import counter
from usae.common.types import Array

FIRST = len(PENALTIES) // 2  # where the walk begins

Errors = Mapping[str, float]


def solved_maps(fit: Products, validation: Products, source: slice, targets: Spans) -> dict[str, LinearMap]:
    """As `ridge.ridge_maps`: from the columns `source` to each of several targets, by name.

    Each has the penalty of `PENALTIES` from which no neighbour errs less on `validation`.
    """
    indices = walked(_validated(fit, validation, source, targets), tuple(targets))
    both, maps = fit.merged(validation), {}
    covariance, centre = both.block(both.mean, source, source), both.origin + both.mean
    for index in sorted(set(indices.values())):
        names = [name for name in targets if indices[name] == index]
        cross = [both.block(both.mean, source, targets[name]) for name in names]
        for name, weights in zip(names, _solutions(covariance, float(PENALTIES[index]), cross), strict=True):
            maps[name] = LinearMap(weights, centre[targets[name]] - centre[source] @ weights)
    return {name: maps[name] for name in targets}


def walked(errors: Callable[[float], Errors], targets: tuple[str, ...]) -> dict[str, int]:
    """Target -> number of the penalty beside which none errs less; errors: penalty -> target -> its error."""
    known = {FIRST: errors(float(PENALTIES[FIRST]))}
    with counter(len(PENALTIES), description="penalties of a ridge regression", unit="penalty", done=1) as bar:
        while asked := set(_neighbours(known, targets)) - set(known):
            known |= {index: errors(float(PENALTIES[index])) for index in asked}
            bar.update(len(asked))
    return {target: _best(known, target) for target in targets}


def _validated(fit: Products, validation: Products, source: slice, targets: Spans) -> Callable[[float], Errors]:
    """Error per validation token of the maps of a penalty, summed over the channels of each target."""
    mean = fit.mean
    covariance, square = (sums.block(mean, source, source) for sums in (fit, validation))
    cross = [fit.block(mean, source, span) for span in targets.values()]
    asked = [validation.block(mean, source, span) for span in targets.values()]
    powers = [float(validation.variances(mean)[span].sum()) for span in targets.values()]

    def errors(penalty: float) -> Errors:
        solutions = _solutions(covariance, penalty, cross)
        return {
            target: power - 2 * float((w * right).sum()) + float((w * (square @ w)).sum())
            for target, power, right, w in zip(targets, powers, asked, solutions, strict=True)
        }

    return errors


def _solutions(covariance: Array, penalty: float, cross: list[Array]) -> list[Array]:
    """Weights (c, d) for each (c, d) of `cross`, 0 without variance; penalty: in units of the mean variance."""
    variance = float(np.trace(covariance)) / len(covariance)
    if variance <= 0:
        return [np.zeros_like(each) for each in cross]
    penalised = covariance.copy()
    penalised[np.diag_indices_from(penalised)] += penalty * variance
    factor = cho_factor(penalised, lower=True, overwrite_a=True, check_finite=False)
    return [cast(Array, cho_solve(factor, each, check_finite=False)) for each in cross]


def _neighbours(known: Mapping[int, Errors], targets: Iterable[str]) -> list[int]:
    """Numbers of the penalties beside the best one of each target."""
    best = [_best(known, target) for target in targets]
    return [beside for index in best for beside in (index - 1, index + 1) if 0 <= beside < len(PENALTIES)]


def _best(known: Mapping[int, Errors], target: str) -> int:
    """Of equal ones the first, as in `ridge.py`."""
    return min(sorted(known), key=lambda index: known[index][target])
