"""Units of two sides that stand for each other, and one side's units predicted from the other's.

Units are concepts of two SAEs; r is the correlation of their codes.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from usae.common.numerics.correlation import CrossCorrelation
from usae.common.numerics.ridge import LinearMap
from usae.common.types import Array

MeanStd = tuple[Array, Array]  # (c,) means and standard deviations of codes


@dataclass(frozen=True)
class Partners:
    """Pairs of units: own, partner (pairs,), and their correlation r (pairs,)."""

    own: Array
    partner: Array
    r: Array

    def above(self, least: float) -> "Partners":
        """Only the pairs that correlate more."""
        kept = self.r > least
        return Partners(self.own[kept], self.partner[kept], self.r[kept])

    @property
    def back(self) -> "Partners":
        """The same pairs from the other side."""
        return Partners(self.partner, self.own, self.r)


def one_to_one(correlations: Array) -> Partners:
    """All units of the smaller side, so that the sum of `correlations` (left, right) is largest."""
    own, partner = linear_sum_assignment(correlations, maximize=True)
    return Partners(own, partner, correlations[own, partner])


def nearest(correlations: Array) -> Partners:
    """For each unit of the left side the one that correlates most, which may be another one's too."""
    own, partner = np.arange(len(correlations)), correlations.argmax(axis=1)
    return Partners(own, partner, correlations[own, partner])


def weighted_nearest(correlations: Array, masses: Array) -> float:
    """Mean over the left side's units, each as heavy as its mass (left,), of the largest correlation (wMPPC)."""
    return float(np.average(nearest(correlations).r, weights=masses)) if masses.sum() > 0 else 0.0


def means_and_deviations(sums: CrossCorrelation) -> tuple[MeanStd, MeanStd]:
    """Of the units of both sides."""
    return _mean_std(sums.left_sums / sums.rows), _mean_std(sums.right_sums / sums.rows)


def regression(partners: Partners, source: MeanStd, target: MeanStd) -> LinearMap:
    """Each partner of the target from its own unit of the source; units without a partner are their mean."""
    own, partner, spread = partners.own, partners.partner, source[1][partners.own]
    slopes = partners.r * np.divide(target[1][partner], spread, out=np.zeros(len(own)), where=spread > 0)
    weights = sparse.csr_array((slopes, (own, partner)), shape=(len(source[0]), len(target[0])))
    offset = target[0].copy()
    offset[partner] -= slopes * source[0][own]
    return LinearMap(weights, offset)


def _mean_std(sums: Array) -> MeanStd:
    """Mean and standard deviation from means of values and of squares (2, c)."""
    return sums[0], np.sqrt(np.maximum(sums[1] - sums[0] ** 2, 0))
