"""Concepts of two dictionaries matched one to one so that the sum of their cosines is largest."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from usae.common.seeds import generator
from usae.common.types import Array


def matching(rows: Array, others: Array) -> tuple[Array, Array]:
    """For each concept of `rows` (c, d): its partner in `others` (n, d), and their cosine.

    Partners are all different; where there are fewer others than rows, some have none: partner -1, cosine NaN.
    """
    cosines = unit(rows) @ unit(others).T  # (c, n)
    own, partner = linear_sum_assignment(cosines, maximize=True)
    partners, matched = np.full(len(rows), -1), np.full(len(rows), np.nan)
    partners[own], matched[own] = partner, cosines[own, partner]
    return partners, matched


def random_matching(concepts: int, width: int, seed: int) -> Array:
    """(c,) matched cosines of two Gaussian dictionaries: the baseline."""
    rng = generator(seed, "random dictionaries", concepts, width)
    return matching(*(rng.standard_normal((concepts, width), np.float32) for _ in range(2)))[1]


def concatenated(dictionaries: Sequence[Array]) -> Array:
    """(c, sum of d) of dictionaries (c, d_i) that share their concepts; each counts alike, whatever its width."""
    return unit(np.concatenate([unit(rows) for rows in dictionaries], axis=1))


def unit(rows: Array) -> Array:
    """Rows (c, d) at unit norm; those of no length stay 0."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norms > 0, norms, 1))
