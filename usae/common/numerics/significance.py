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
    """All (c,); NaN in `p`, `tail` and `q` for concepts that were not tested, in `z` where undefined.

    `mean`, `sd`: of the null with the largest mean, the hardest one, which `hardest` numbers; `z` and `lift` are
    over it, where a mean that B permutations cannot tell from 0 counts as 1 / (1 + B). `p` = (1 + permutations
    that reach the count) / (1 + B), the largest over the nulls; `tail`: the same with the resolution of a
    parametric tail; `q`: `tail` after Benjamini and Hochberg, over the tested concepts.
    """

    hardest: Array
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
    """How far `observed` (c,) counts lie above all of several nulls, `permuted` (nulls, B, c): the
    intersection-union test, whose p is the largest of theirs. `tested` (c,) bool must not depend on `observed`.
    """
    permutations = permuted.shape[1]
    means, sds = permuted.mean(axis=1), permuted.std(axis=1, ddof=1 if permutations > 1 else 0)  # (nulls, c)
    reached = (permuted >= observed).sum(axis=1)
    p = (1 + reached) / (1 + permutations)
    tail = np.where(reached > 0, p, np.minimum(p, count_tail(observed, means, sds**2))).max(axis=0)
    q = np.full(len(observed), np.nan)
    if tested.any():
        q[tested] = stats.false_discovery_control(tail[tested], method="bh")
    hardest = means.argmax(axis=0)
    mean, sd = (values[hardest, np.arange(len(observed))] for values in (means, sds))
    z = np.divide(observed - mean, sd, out=np.full(len(observed), np.nan), where=sd > 0)
    lift = observed / np.maximum(mean, 1 / (1 + permutations))
    greatest, tail = (np.where(tested, values, np.nan) for values in (p.max(axis=0), tail))
    return Significance(hardest, mean, sd, z, lift, greatest, tail, q)


def count_tail(observed: Array, mean: Array, variance: Array) -> Array:
    """P(count >= observed) of counts with this mean and variance; 1 where nothing is known (variance 0).

    A negative binomial where they vary more than a Poisson count, else a Poisson, which is then too wide.
    """
    varying, clumped = variance > 0, variance > mean * (1 + 1e-6)
    tail = np.where(varying, stats.poisson.sf(observed - 1, np.where(varying, mean, 1.0)), 1.0)
    m, v = np.where(clumped, mean, 1.0), np.where(clumped, variance, 2.0)
    return np.where(clumped, stats.nbinom.sf(observed - 1, m**2 / (v - m), m / v), tail)
