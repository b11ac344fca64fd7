import numpy as np
import pytest
from scipy import stats

from usae.common.numerics.significance import Significance, count_tail, significance


def test_p_counts_the_permutations_that_reach_the_count():
    permuted = np.array([[1, 0], [2, 0], [3, 0], [4, 1]])
    found = significance(np.array([3, 0]), permuted, np.array([True, True]))
    assert found.p.tolist() == [3 / 5, 1]
    assert found.mean.tolist() == [2.5, 0.25]
    np.testing.assert_allclose(found.sd, permuted.std(axis=0, ddof=1))
    np.testing.assert_allclose(found.z, (np.array([3, 0]) - found.mean) / found.sd)
    np.testing.assert_allclose(found.lift, [3 / 2.5, 0])
    np.testing.assert_array_equal(found.tail, found.p)


def test_concepts_that_are_not_tested_do_not_count_in_the_correction():
    permuted = np.random.default_rng(0).poisson(20, (99, 6))
    observed, tested = np.array([60, 20, 21, 19, 900, 0]), np.array([True] * 4 + [False] * 2)
    found = significance(observed, permuted, tested)
    for values in (found.p, found.tail, found.q):
        assert np.isnan(values[4:]).all()
    np.testing.assert_allclose(found.q[:4], stats.false_discovery_control(found.tail[:4]))
    assert found.significant.tolist() == [True, False, False, False, False, False]
    assert np.isnan(significance(observed, permuted, np.zeros(6, bool)).q).all()


def test_the_tail_is_finer_than_the_permutations_and_never_above_them():
    permuted = np.random.default_rng(1).poisson(20, (99, 2))
    found = significance(np.array([60, 21]), permuted, np.ones(2, bool))
    assert found.p[0] == 1 / 100
    assert 0 < found.tail[0] < 1e-8
    assert found.tail[1] == found.p[1]


def test_a_null_without_variance_knows_nothing_beyond_its_permutations():
    """As where every class has one image: nothing moves, and nothing may become significant."""
    found = significance(np.array([7, 7]), np.array([[7, 0]] * 19), np.ones(2, bool))
    assert found.tail.tolist() == [1, 1 / 20]
    assert np.isnan(found.z).all()
    assert np.isnan(found.lift[1])


def test_tails_are_those_of_the_moments():
    assert count_tail(np.array([5]), np.array([2.0]), np.array([2.0]))[0] == pytest.approx(stats.poisson.sf(4, 2))
    narrow = count_tail(np.array([5]), np.array([2.0]), np.array([0.5]))[0]
    assert narrow == pytest.approx(stats.poisson.sf(4, 2))
    law = stats.nbinom(3, 0.2)
    wide = count_tail(np.array([40]), np.array([law.mean()]), np.array([law.var()]))[0]
    assert wide == pytest.approx(law.sf(39), rel=1e-9)
    assert wide > 100 * stats.norm.sf((39.5 - law.mean()) / law.std()) / 10


def test_significant_is_a_false_discovery_rate_of_at_most_5_percent():
    q = np.array([0.049, 0.05, 0.051, 0.099, np.nan])
    assert Significance(*[q] * 7).significant.tolist() == [True, True, False, False, False]
