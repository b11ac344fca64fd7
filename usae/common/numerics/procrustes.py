"""The rotation from one model's activations to another's, with one scale (Schoenemann 1966)."""

import numpy as np

from usae.common.numerics.ridge import LinearMap, Products
from usae.common.types import Array


def procrustes(sums: Products, source: slice, target: slice) -> LinearMap:
    """s Q about the means, with Q^T Q = 1 or Q Q^T = 1, that errs least from the columns `source` to `target`.

    The narrower side is taken as padded with zeros to the wider one's width. s = trace(S) / |X|^2, where S are the
    singular values of X^T Y; of X without variance it is 0.
    """
    covariance, centre = sums.about(sums.mean), sums.origin + sums.mean
    left, values, right = np.linalg.svd(covariance[source, target], full_matrices=False)
    power = float(np.trace(covariance[source, source]))
    weights: Array = (values.sum() / power if power > 0 else 0.0) * (left @ right)  # (d_i, d_j)
    return LinearMap(weights, centre[target] - centre[source] @ weights)
