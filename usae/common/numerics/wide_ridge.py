"""Ridge regression from thousands of columns, such as all concepts, by Cholesky factors.

Stages `onboarding` and `compare`. The maps are those of `ridge.py`. There one eigendecomposition serves all
penalties, at some 9 c^3 operations for c columns. Here each penalty that is tried costs a factorisation, c^3 / 3,
and a few are enough: the error on the validation tokens falls towards the best penalty and rises beyond it, so the
search walks downhill, from the best penalty for some of the columns.
"""

from collections.abc import Callable, Mapping
from typing import cast

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from usae.common.numerics.ridge import PENALTIES, LinearMap, Products, Regression, Spans
from usae.common.runtime.progress import counter
from usae.common.types import Array

SOME = 1024  # columns of which the best penalty is known in a second or two

Numbers = Mapping[str, int]  # target -> number of a penalty
Errors = Callable[[float, tuple[str, ...]], Mapping[str, float]]  # of a penalty, of some targets


def solved_maps(fit: Products, validation: Products, source: slice, targets: Spans) -> dict[str, LinearMap]:
    """As `ridge.ridge_maps`: from the columns `source` to each of several targets, by name.

    Each has the penalty of `PENALTIES` beside which none errs less on `validation`; for SOME columns or fewer
    it is the one that errs least of all.
    """
    chosen = chosen_penalties(fit, validation, source, targets)
    both, maps = fit.merged(validation), {}
    covariance, centre = both.block(both.mean, source, source), both.origin + both.mean
    for index in sorted(set(chosen.values())):
        names = _having(chosen, index)
        cross = [both.block(both.mean, source, targets[name]) for name in names]
        for name, weights in zip(names, _solutions(covariance, float(PENALTIES[index]), cross), strict=True):
            maps[name] = LinearMap(weights, centre[targets[name]] - centre[source] @ weights)
    return {name: maps[name] for name in targets}


def chosen_penalties(fit: Products, validation: Products, source: slice, targets: Spans) -> dict[str, int]:
    """Target -> number of its penalty in `PENALTIES`; see `solved_maps`."""
    begin = _of_some_columns(fit, validation, source, targets)
    return walked(_validated(fit, validation, source, targets), begin)


def _of_some_columns(fit: Products, validation: Products, source: slice, targets: Spans) -> Numbers:
    """Target -> number of the best penalty for every so many-th column of `source`, SOME at most."""
    columns = np.arange(len(fit.origin))[source]
    some = Regression(fit, columns[:: -(-len(columns) // SOME)])
    return {target: some.best_penalty(validation, span) for target, span in targets.items()}


def walked(errors: Errors, begin: Numbers) -> dict[str, int]:
    """Target -> number of the penalty beside which none errs less, walking downhill from `begin`."""
    tried: dict[str, dict[int, float]] = {target: {} for target in begin}
    asked = {index: _having(begin, index) for index in sorted(set(begin.values()))}
    with counter(len(PENALTIES), description="penalties of a ridge regression, at most", unit="penalty") as bar:
        while asked:
            for index, targets in asked.items():
                for target, error in errors(float(PENALTIES[index]), targets).items():
                    tried[target][index] = error
                bar.update()
            asked = _neighbours(tried)
    return {target: _best(own) for target, own in tried.items()}


def _neighbours(tried: Mapping[str, Mapping[int, float]]) -> dict[int, tuple[str, ...]]:
    """Number -> the targets that have not tried it, and whose best one is beside it."""
    beside = {target: {_best(own) - 1, _best(own) + 1} - set(own) for target, own in tried.items()}
    asked = {
        index: tuple(target for target, own in beside.items() if index in own) for index in range(len(PENALTIES))
    }
    return {index: targets for index, targets in asked.items() if targets}


def _validated(fit: Products, validation: Products, source: slice, targets: Spans) -> Errors:
    """Error per validation token of the maps of a penalty, summed over the channels of each target."""
    mean = fit.mean
    covariance, square = (sums.block(mean, source, source) for sums in (fit, validation))
    cross, asked = (
        {target: sums.block(mean, source, span) for target, span in targets.items()} for sums in (fit, validation)
    )
    variances = validation.variances(mean)

    def errors(penalty: float, names: tuple[str, ...]) -> dict[str, float]:
        solutions = _solutions(covariance, penalty, [cross[name] for name in names])
        return {
            name: float(variances[targets[name]].sum())
            - 2 * float((w * asked[name]).sum())
            + float((w * (square @ w)).sum())
            for name, w in zip(names, solutions, strict=True)
        }

    return errors


def _solutions(covariance: Array, penalty: float, cross: list[Array]) -> list[Array]:
    """Weights (c, d) for each (c, d) of `cross`, 0 without variance; penalty: in units of the mean variance."""
    variance = float(np.trace(covariance)) / len(covariance)
    if variance <= 0:
        return [np.zeros_like(each) for each in cross]
    penalised = covariance.copy(order="F")  # LAPACK's order: factorised where it is
    penalised[np.diag_indices_from(penalised)] += penalty * variance
    factor = cho_factor(penalised, lower=True, overwrite_a=True, check_finite=False)
    return [cast(Array, cho_solve(factor, each, check_finite=False)) for each in cross]


def _best(tried: Mapping[int, float]) -> int:
    """Of equal ones the first, as in `ridge.py`."""
    return min(sorted(tried), key=tried.__getitem__)


def _having(numbers: Numbers, index: int) -> tuple[str, ...]:
    """The targets of one number: a factorisation serves them all."""
    return tuple(target for target, own in numbers.items() if own == index)
