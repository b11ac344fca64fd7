"""Coordinates that several models have in common, linearly: canonical correlations of any number of models (MCCA).

C w = lambda B w, where C is the covariance of all models' channels side by side and B its blocks on the diagonal,
one a model. lambda is 1 for coordinates that no two models share and the number of models for those that all have.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from usae.common.types import Array

PENALTY = 1e-3  # added to each model's variances, in units of their mean


@dataclass(frozen=True)
class SharedCoordinates:
    """values (d,): lambda, decreasing. weights: model -> (d_i, d), a coordinate a column."""

    values: Array
    weights: Mapping[str, Array]

    @property
    def correlations(self) -> Array:
        """(d,) mean over pairs of models of the correlation in each coordinate."""
        return np.asarray((self.values - 1) / (len(self.weights) - 1))


def shared_coordinates(
    covariance: Array, spans: Mapping[str, slice], penalty: float = PENALTY
) -> SharedCoordinates:
    """Of a covariance (d, d) of all models side by side; `spans`: the columns of each. Directions without variance
    have no part in any coordinate.
    """
    whitening = {model: _whitening(covariance[span, span], penalty) for model, span in spans.items()}
    values, vectors = np.linalg.eigh(_whitened(covariance, whitening, spans))
    weights = {model: whitening[model] @ vectors[span][:, ::-1] for model, span in spans.items()}
    return SharedCoordinates(values[::-1], weights)


def largest_value(covariance: Array, spans: Mapping[str, slice], penalty: float = PENALTY) -> float:
    """lambda of the first coordinate alone."""
    whitening = {model: _whitening(covariance[span, span], penalty) for model, span in spans.items()}
    return float(np.linalg.eigvalsh(_whitened(covariance, whitening, spans))[-1])


def _whitening(covariance: Array, penalty: float) -> Array:
    """(d_i, d_i) by which rows of the penalised covariance become uncorrelated and of variance 1."""
    values, basis = np.linalg.eigh(covariance)
    spread = np.maximum(values, 0) + penalty * max(float(values.mean()), 0)
    kept = spread > np.finfo(float).eps * len(spread) * spread.max(initial=0)
    return np.asarray(basis * np.where(kept, 1 / np.sqrt(np.where(kept, spread, 1)), 0) @ basis.T)


def _whitened(covariance: Array, whitening: Mapping[str, Array], spans: Mapping[str, slice]) -> Array:
    """The covariance of all models' whitened channels; its diagonal is 1, the penalty's part too."""
    whitened = np.eye(len(covariance))
    for one, left in spans.items():
        for other, right in spans.items():
            if one != other:
                whitened[left, right] = whitening[one].T @ covariance[left, right] @ whitening[other]
    return whitened
