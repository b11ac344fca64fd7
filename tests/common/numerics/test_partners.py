import numpy as np
import pytest

from usae.common.numerics.correlation import CrossCorrelation
from usae.common.numerics.partners import (
    Partners,
    means_and_deviations,
    nearest,
    one_to_one,
    regression,
    weighted_nearest,
)

R = np.array([[0.9, 0.8], [0.85, 0.1]])


def pairs(partners: Partners) -> set[tuple[int, int]]:
    return set(zip(partners.own.tolist(), partners.partner.tolist(), strict=True))


def test_the_largest_sum_may_break_the_only_pair_that_is_mutual():
    matched = one_to_one(R)
    assert pairs(matched) == {(0, 1), (1, 0)}
    assert matched.r.sum() == pytest.approx(1.65)


def test_the_nearest_may_be_one_unit_for_all():
    assert pairs(nearest(R)) == {(0, 0), (1, 0)}
    assert weighted_nearest(R, np.array([3.0, 1.0])) == pytest.approx(0.8875)
    assert weighted_nearest(R, np.zeros(2)) == 0


def test_pairs_from_the_other_side_and_above_a_bar():
    matched = one_to_one(R)
    assert pairs(matched.back) == {(1, 0), (0, 1)}
    assert pairs(matched.above(0.82)) == {(1, 0)}
    assert pairs(one_to_one(np.array([[0.1], [0.5]]))) == {(1, 0)}


def test_a_unit_is_the_regression_on_its_partner_or_its_mean():
    rng = np.random.default_rng(0)
    left = rng.random((200, 3))
    right = np.stack([2 * left[:, 1] + 5, rng.random(200)], axis=1)
    sums = CrossCorrelation(3, 2)
    sums.update(left, right)
    partners = one_to_one(sums.correlations).above(0.5)
    assert pairs(partners) == {(1, 0)}
    predicted = regression(partners, *means_and_deviations(sums))(left)
    np.testing.assert_allclose(predicted[:, 0], right[:, 0], atol=1e-9)
    np.testing.assert_allclose(predicted[:, 1], right[:, 1].mean(), atol=1e-9)


def test_a_partner_that_never_changes_predicts_the_mean():
    silent = (np.array([0.0]), np.array([0.0]))
    code = regression(Partners(np.array([0]), np.array([0]), np.array([0.0])), silent, (np.ones(1), np.ones(1)))
    assert code(np.array([[7.0]])).tolist() == [[1.0]]
