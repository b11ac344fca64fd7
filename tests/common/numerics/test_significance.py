from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from usae.common.numerics.significance import count_tail, significance


def test_p_counts_the_permutations_that_reach_the_count():
    permuted = np.array([[1, 0], [2, 0], [3, 0], [4, 1]])
    found = significance(np.array([3, 0]), permuted[None], np.array([True, True]))
    assert found.p.tolist() == [3 / 5, 1]
    assert found.mean.tolist() == [2.5, 0.25]
    np.testing.assert_allclose(found.sd, permuted.std(axis=0, ddof=1))
    np.testing.assert_allclose(found.z, (np.array([3, 0]) - found.mean) / found.sd)
    np.testing.assert_allclose(found.lift, [3 / 2.5, 0])
    np.testing.assert_array_equal(found.tail, found.p)


def test_concepts_that_are_not_tested_do_not_count_in_the_correction():
    permuted = np.random.default_rng(0).poisson(20, (99, 6))
    observed, tested = np.array([60, 20, 21, 19, 900, 0]), np.array([True] * 4 + [False] * 2)
    found = significance(observed, permuted[None], tested)
    for values in (found.p, found.tail, found.q):
        assert np.isnan(values[4:]).all()
    np.testing.assert_allclose(found.q[:4], stats.false_discovery_control(found.tail[:4]))
    assert found.significant.tolist() == [True, False, False, False, False, False]
    assert np.isnan(significance(observed, permuted[None], np.zeros(6, bool)).q).all()


def test_the_tail_is_finer_than_the_permutations_and_never_above_them():
    permuted = np.random.default_rng(1).poisson(20, (99, 2))
    found = significance(np.array([60, 21]), permuted[None], np.ones(2, bool))
    assert found.p[0] == 1 / 100
    assert 0 < found.tail[0] < 1e-8
    assert found.tail[1] == found.p[1]


def test_a_null_without_variance_knows_nothing_beyond_its_permutations():
    """As where every class has one image: nothing moves, and nothing may become significant."""
    found = significance(np.array([7, 7]), np.array([[[7, 0]] * 19]), np.ones(2, bool))
    assert found.tail.tolist() == [1, 1 / 20]
    assert np.isnan(found.z).all()
    assert found.lift.tolist() == [1, 140]  # a mean of 0 counts as 1 / 20


def test_tails_are_those_of_the_moments():
    assert count_tail(np.array([5]), np.array([2.0]), np.array([2.0]))[0] == pytest.approx(stats.poisson.sf(4, 2))
    narrow = count_tail(np.array([5]), np.array([2.0]), np.array([0.5]))[0]
    assert narrow == pytest.approx(stats.poisson.sf(4, 2))
    law = stats.nbinom(3, 0.2)
    wide = count_tail(np.array([40]), np.array([law.mean()]), np.array([law.var()]))[0]
    assert wide == pytest.approx(law.sf(39), rel=1e-9)
    assert wide > 100 * stats.norm.sf((39.5 - law.mean()) / law.std()) / 10


def test_of_several_nulls_the_one_that_is_hardest_to_beat_counts():
    """The intersection-union test: as often as both say so, not as either does."""
    easy, hard = np.array([[0, 30], [1, 31], [2, 29]]), np.array([[9, 1], [12, 0], [15, 2]])
    observed, tested = np.array([12, 32]), np.ones(2, bool)
    found = significance(observed, np.stack([easy, hard]), tested)
    assert found.hardest.tolist() == [1, 0]
    assert found.p.tolist() == [3 / 4, 1 / 4]
    assert found.lift.tolist() == [12 / 12, 32 / 30]
    np.testing.assert_array_equal(found.mean, [12, 30])
    alone = [significance(observed, null[None], tested) for null in (easy, hard)]
    np.testing.assert_array_equal(found.tail, np.maximum(alone[0].tail, alone[1].tail))


def test_the_level_of_the_test_is_five_percent():
    observed, permuted = np.array([0, 0]), np.zeros((1, 9, 2), int)
    found = significance(observed, permuted, np.ones(2, bool))
    for q, expected in ((0.05, True), (0.0501, False)):
        assert replace(found, q=np.array([q, 1.0])).significant.tolist() == [expected, False]
