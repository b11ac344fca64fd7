import numpy as np
import pytest

from tests.common.numerics.test_ridge import products
from usae.common.numerics.ridge import PENALTIES, Regression, ridge_maps
from usae.common.numerics.wide_ridge import solved_maps, walked

TARGETS = {"clear": slice(40, 45), "noisy": slice(45, 52)}


def codes_and_targets(seed: int, tokens: int) -> np.ndarray:
    """Sparse codes of 40 concepts, two of them dead, then channels linear in them, with little and much noise."""
    rng, maps = np.random.default_rng([seed, tokens]), np.random.default_rng(0).normal(size=(40, 12))
    codes = np.where(rng.random((tokens, 40)) < 0.2, rng.gamma(2, 1, (tokens, 40)), 0)
    codes[:, [3, 17]] = 0
    noise = np.repeat([0.3, 5.0], [5, 7]) * rng.normal(size=(tokens, 12))
    return np.concatenate([codes, codes @ maps + noise], axis=1)


@pytest.mark.parametrize("tokens", [25, 60, 900], ids=["fewer than concepts", "few", "many"])
def test_maps_and_penalties_are_those_of_the_eigendecomposition(tokens):
    fit, validation = products(codes_and_targets(0, tokens)), products(codes_and_targets(1, tokens // 4))
    expected = ridge_maps(fit, validation, slice(0, 40), TARGETS)
    maps = solved_maps(fit, validation, slice(0, 40), TARGETS)
    assert list(maps) == list(expected)
    for target, each in maps.items():
        np.testing.assert_allclose(each.weights, expected[target].weights, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(each.offset, expected[target].offset, rtol=1e-6, atol=1e-6)


def test_the_walk_ends_at_the_least_error_of_each_target_and_tries_few_penalties():
    fit, validation = products(codes_and_targets(0, 60)), products(codes_and_targets(1, 15))
    of_all = {
        name: Regression(fit, slice(0, 40)).errors(validation, span, PENALTIES) for name, span in TARGETS.items()
    }
    tried = []

    def errors(penalty: float) -> dict[str, float]:
        tried.append(penalty)
        return {name: float(values[penalty == PENALTIES][0]) for name, values in of_all.items()}

    assert walked(errors, tuple(TARGETS)) == {name: int(values.argmin()) for name, values in of_all.items()}
    assert len(set(tried)) == len(tried) < len(PENALTIES)


def test_sources_that_never_vary_give_the_mean():
    rows = codes_and_targets(0, 50)
    rows[:, :40] = 0
    fit, validation = products(rows[:40]), products(rows[40:])
    each = solved_maps(fit, validation, slice(0, 40), TARGETS)["clear"]
    assert not each.weights.any()
    np.testing.assert_allclose(each.offset, rows[:, 40:45].mean(axis=0))
