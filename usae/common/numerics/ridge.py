"""How much of model j's activations any linear map from model i's can explain (stage `measure`).

Codes of i decoded by j are a translation from i to j, token by token. Ridge regression A_j ~ A_i B, fitted on
training tokens, is the ceiling of the linear ones, and what R2 between models should be read against; of rank k it
is what k numbers per token can carry, and from all other models side by side what all of them know of j together.
Everything follows from sums of products of activations, so each token is seen once and none is kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from usae.common.runtime.progress import progress
from usae.common.types import Array, Pair

VALIDATION = 5  # one in so many training images chooses the penalty

PENALTIES = np.logspace(-7, 1, 17)  # in units of the mean variance of the source's channels
MOST_COLUMNS = 8192  # side by side, up to which each model is predicted from all others together
BLOCK_TOKENS = 4096  # summed in the activations' own precision before they join the float64 sums

Spans = Mapping[str, slice]


@dataclass(frozen=True)
class LinearMap:
    """rows @ weights + offset: weights (d_i, d_j), dense or sparse, offset (d_j,)."""

    weights: Any
    offset: Array

    def __call__(self, rows: Any) -> Array:
        """(n, d_j) of rows (n, d_i), dense or sparse."""
        return np.asarray(rows @ self.weights + self.offset)

    def then(self, following: "LinearMap") -> "LinearMap":
        """This map, and the following one on its output."""
        return LinearMap(self.weights @ following.weights, following(self.offset))


@dataclass
class Products:
    """Sums over tokens of activations, all models side by side in d columns: `total` (d,), `products` (d, d).

    What is added is shifted by `origin` (d,), any point near the mean, so that nothing cancels.
    """

    origin: Array
    count: int
    total: Array
    products: Array

    @classmethod
    def none(cls, origin: Array) -> Self:
        """Sums over no tokens."""
        return cls(origin, 0, np.zeros(len(origin)), np.zeros((len(origin), len(origin))))

    def update(self, rows: Array) -> None:
        """Add tokens (n, d)."""
        for start in range(0, len(rows), BLOCK_TOKENS):
            block = rows[start : start + BLOCK_TOKENS] - self.origin.astype(rows.dtype)  # (tokens, d)
            self.total += block.sum(axis=0, dtype=np.float64)
            self.products += block.T @ block
        self.count += len(rows)

    def merge(self, other: Self) -> None:
        """Add the sums over other tokens; their origins are the same."""
        self.count += other.count
        self.total += other.total
        self.products += other.products

    def merged(self, other: Self) -> Self:
        """The sums over both sets of tokens; their origins are the same."""
        return type(self)(
            self.origin, self.count + other.count, self.total + other.total, self.products + other.products
        )

    @property
    def mean(self) -> Array:
        """(d,) mean, relative to the origin."""
        return np.asarray(self.total / self.count)

    def about(self, point: Array) -> Array:
        """(d, d) mean products of deviations from `point` (d,), which is relative to the origin."""
        return self.block(point, slice(None), slice(None))

    def variances(self, point: Array) -> Array:
        """(d,) diagonal of `about`."""
        mean = self.mean
        return np.asarray(self.products.diagonal() / self.count - mean * point - point * mean + point * point)

    def block(self, point: Array, rows: slice | Array, columns: slice | Array) -> Array:
        """The same of some rows and columns alone: slices, or numbers."""
        chosen = (
            (rows, columns)
            if isinstance(rows, slice) and isinstance(columns, slice)
            else self._grid(rows, columns)
        )
        means = self.products[chosen] / self.count
        means -= np.outer(self.mean[rows], point[columns])
        means -= np.outer(point[rows], self.mean[columns])
        means += np.outer(point[rows], point[columns])
        return np.asarray(means)

    def _grid(self, *chosen: slice | Array) -> tuple[Array, ...]:
        everything = np.arange(len(self.total))
        return np.ix_(*(everything[each] for each in chosen))


def ridge_r2(
    fit: Products, validation: Products, test: Products, spans: Spans, rank: int | None = None
) -> dict[Pair, float]:
    """(source, target) -> R2 on `test` of the best linear map with intercept, about the target's channel means.

    `spans` are the columns of each model; `rank`: the most numbers per token that the map may carry, None for any.
    The penalty is the one of `PENALTIES` that errs least on `validation` when fitted on `fit`; the map is then
    fitted on both.
    """
    return {
        (source, target): value
        for source, columns in progress(spans.items(), description="ridge, from", unit="model")
        for target, value in explained(fit, validation, test, columns, spans, rank).items()
    }


def ridge_r2_others(fit: Products, validation: Products, test: Products, spans: Spans) -> dict[str, float]:
    """Target -> R2 on `test` of the best linear map from all other models side by side, as `ridge_r2`.

    Empty for one model alone, which has no others, and beyond MOST_COLUMNS: each target takes two
    eigendecompositions of all other columns.
    """
    if len(spans) < 2 or len(fit.origin) > MOST_COLUMNS:
        return {}
    everything = np.arange(len(fit.origin))
    values: dict[str, float] = {}
    for target, span in progress(spans.items(), description="ridge, from all others", unit="model"):
        others = np.delete(everything, span)
        values |= explained(fit, validation, test, others, {target: span})
    return values


def explained(
    fit: Products,
    validation: Products,
    test: Products,
    source: slice | Array,
    targets: Spans,
    rank: int | None = None,
) -> dict[str, float]:
    """Target -> R2 on `test`, about its own mean there, of the map from the columns `source`; see `ridge_r2`.

    source: a slice, or (d_i,) numbers of columns.
    """
    trial, final = Regression(fit, source), Regression(fit.merged(validation), source)
    variances = test.variances(test.mean)
    values = {}
    for target, span in targets.items():
        best = trial.best_penalty(validation, span, rank)
        error = float(final.errors(test, span, PENALTIES[[best]], rank)[0])
        total = float(variances[span].sum())
        values[target] = 1 - error / total if total > 0 else float("nan")
    return values


def ridge_map(fit: Products, validation: Products, source: slice, target: slice) -> LinearMap:
    """The map that `ridge_r2` judges, from the columns `source` to the columns `target`, in their own units."""
    return ridge_maps(fit, validation, source, {"target": target})["target"]


def ridge_maps(fit: Products, validation: Products, source: slice | Array, targets: Spans) -> dict[str, LinearMap]:
    """`ridge_map` to each of several targets, by name, each with a penalty of its own."""
    trial, final = Regression(fit, source), Regression(fit.merged(validation), source)
    maps = {}
    for target, span in targets.items():
        best = trial.best_penalty(validation, span)
        maps[target] = final.linear_map(span, float(PENALTIES[best]))
    return maps


class Regression:
    """Ridge regressions from some columns, for any target, penalty and rank by one eigendecomposition.

    source: a slice, or (d_i,) numbers of columns.
    """

    def __init__(self, fit: Products, source: slice | Array) -> None:
        self.source, self.mean, self.origin = np.arange(len(fit.origin))[source], fit.mean, fit.origin
        covariance = fit.block(fit.mean, self.source, slice(None))  # (d_i, d)
        values, self.basis = np.linalg.eigh(covariance[:, self.source])  # (d_i,), (d_i, d_i)
        self.values = np.maximum(values, 0)
        self.cross = self.basis.T @ covariance  # (d_i, d)

    def errors(self, test: Products, target: slice, penalties: Array, rank: int | None = None) -> Array:
        """(penalties,) squared error per token of `test`, summed over the target's channels."""
        turned = self.basis.T @ test.block(self.mean, self.source, target)  # (d_i, d_j)
        square = self.basis.T @ test.block(self.mean, self.source, self.source) @ self.basis  # (d_i, d_i)
        power = float(test.variances(self.mean)[target].sum())
        weights = [self._weights(target, float(penalty), rank) for penalty in penalties]
        return np.array([power - 2 * (w * turned).sum() + (w * (square @ w)).sum() for w in weights])

    def best_penalty(self, validation: Products, target: slice, rank: int | None = None) -> int:
        """Number of the penalty of `PENALTIES` that errs least; of equal ones the first."""
        if rank is None:
            return int(np.argmin(self.all_errors(validation, target)))
        return int(np.argmin(self.errors(validation, target, PENALTIES, rank)))

    def all_errors(self, test: Products, target: slice) -> Array:
        """(penalties,) `errors` of all `PENALTIES`, of any rank, at the price of about one; they round otherwise.

        Weights are rows of `cross` times a number of each row, so their quadratic form is one of these numbers.
        """
        turned = self.basis.T @ test.block(self.mean, self.source, target)  # (d_i, d_j)
        square = self.basis.T @ test.block(self.mean, self.source, self.source) @ self.basis  # (d_i, d_i)
        cross, spread = self.cross[:, target], self.values + PENALTIES[:, None] * self.values.mean()
        scales = 1 / np.where(spread > 0, spread, np.inf)  # (penalties, d_i)
        explained = 2 * scales @ (cross * turned).sum(axis=1)
        squares = (scales @ (square * (cross @ cross.T)) * scales).sum(axis=1)
        return np.asarray(float(test.variances(self.mean)[target].sum()) - explained + squares)

    def linear_map(self, target: slice, penalty: float) -> LinearMap:
        """The regression of the columns `target`, with its intercept, in the units of the rows."""
        weights = self.basis @ self._weights(target, penalty)  # (d_i, d_j)
        centre = self.origin + self.mean
        return LinearMap(weights, centre[target] - centre[self.source] @ weights)

    def _weights(self, target: slice, penalty: float, rank: int | None = None) -> Array:
        """(d_i, d_j) of the map, in the eigenbasis; 0 for a source without variance.

        The best map of a rank is the ridge fit on the leading directions of its fitted values, among which the
        penalty counts as so many tokens (Mukherjee and Zhu 2011, reduced-rank ridge regression).
        """
        spread = self.values + penalty * self.values.mean()
        cross = self.cross[:, target]
        weights = cross / np.where(spread > 0, spread, np.inf)[:, None]
        if rank is None:
            return np.asarray(weights)
        leading = np.linalg.eigh(cross.T @ weights)[1][:, -rank:]  # (d_j, rank)
        return np.asarray(weights @ leading @ leading.T)
