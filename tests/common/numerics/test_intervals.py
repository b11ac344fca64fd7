"""Wilson's interval against scipy's, and its ends."""

import pytest
from scipy.stats import binomtest

from usae.common.numerics.intervals import wilson


@pytest.mark.parametrize(("hits", "counted"), [(0, 12), (1, 12), (7, 80), (30, 30)])
def test_wilson_is_scipys(hits, counted):
    expected = binomtest(hits, counted).proportion_ci(method="wilson")
    assert wilson(hits / counted, counted) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_nothing_is_known_of_a_share_of_nothing():
    assert wilson(0.5, 0) == (0, 1)
