"""From permuted counts to z, p and the false discovery rate.

With B permutations no p can be below 1 / (1 + B), too coarse for thousands of concepts. Where no permutation
reaches the observed count, p comes from the tail of a negative binomial (or Poisson) with the null's mean and
variance: counts of rare concepts are skewed and come in clumps, which a normal tail would call miracles.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from usae.common.types import Array

FALSE_DISCOVERY_RATE = 0.05


@dataclass(frozen=True)
class Significance:
    """All (c,); NaN in `p`, `tail` and `q` for concepts that were not tested, in `z` and `lift` where undefined.

    `lift` = count / null mean; `p` = (1 + permutations that reach the count) / (1 + B); `tail`: the same with the
    resolution of a parametric tail; `q`: `tail` after Benjamini and Hochberg, over the tested concepts.
    """

    mean: Array
    sd: Array
    z: Array
    lift: Array
    p: Array
    tail: Array
    q: Array

    @property
    def significant(self) -> Array:
        """(c,) bool: q at most 5 %."""
        return np.asarray(self.q <= FALSE_DISCOVERY_RATE)


def significance(observed: Array, permuted: Array, tested: Array) -> Significance:
    """How far `observed` (c,) counts lie above those of `permuted` (B, c); `tested` (c,) bool."""
    permutations = len(permuted)
    mean, sd = permuted.mean(axis=0), permuted.std(axis=0, ddof=1 if permutations > 1 else 0)
    reached = (permuted >= observed).sum(axis=0)
    p = (1 + reached) / (1 + permutations)
    tail = np.where(reached > 0, p, np.minimum(p, count_tail(observed, mean, sd**2)))
    q = np.full(len(observed), np.nan)
    if tested.any():
        q[tested] = stats.false_discovery_control(tail[tested], method="bh")
    z = _where(observed - mean, sd, sd > 0)
    lift = _where(observed.astype(np.float64), mean, mean > 0)
    return Significance(mean, sd, z, lift, np.where(tested, p, np.nan), np.where(tested, tail, np.nan), q)


def count_tail(observed: Array, mean: Array, variance: Array) -> Array:
    """P(count >= observed) of counts with this mean and variance; 1 where nothing is known (variance 0).

    A negative binomial where they vary more than a Poisson count, else a Poisson, which is then too wide.
    """
    varying, clumped = variance > 0, variance > mean * (1 + 1e-6)
    tail = np.where(varying, stats.poisson.sf(observed - 1, np.where(varying, mean, 1.0)), 1.0)
    m, v = np.where(clumped, mean, 1.0), np.where(clumped, variance, 2.0)
    return np.where(clumped, stats.nbinom.sf(observed - 1, m**2 / (v - m), m / v), tail)


def _where(numerator: Array, denominator: Array, valid: Array) -> Array:
    """Quotient where `valid`, elsewhere NaN."""
    return np.asarray(np.divide(numerator, denominator, out=np.full(len(valid), np.nan), where=valid))
