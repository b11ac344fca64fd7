from itertools import product

import numpy as np
import pytest

from tests.common.numerics.test_ridge import products
from usae.common.numerics import wide_ridge
from usae.common.numerics.ridge import PENALTIES, Regression, ridge_maps
from usae.common.numerics.wide_ridge import chosen_penalties, solved_maps, walked

SOURCE = slice(0, 40)
TARGETS = {"clear": slice(40, 45), "noisy": slice(45, 52)}
NUMBERS = {float(penalty): number for number, penalty in enumerate(PENALTIES)}


def codes_and_targets(seed: int, tokens: int) -> np.ndarray:
    """Sparse codes of 40 concepts, two of them dead, then channels linear in them, with little and much noise."""
    rng, maps = np.random.default_rng([seed, tokens]), np.random.default_rng(0).normal(size=(40, 12))
    codes = np.where(rng.random((tokens, 40)) < 0.2, rng.gamma(2, 1, (tokens, 40)), 0)
    codes[:, [3, 17]] = 0
    noise = np.repeat([0.3, 5.0], [5, 7]) * rng.normal(size=(tokens, 12))
    return np.concatenate([codes, codes @ maps + noise], axis=1)


def valley(least: int) -> np.ndarray:
    """Errors of all penalties that fall to `least` and rise beyond, more steeply to one side."""
    away = np.arange(len(PENALTIES)) - least
    return np.where(away < 0, -3.0 * away, away)


def walked_in(errors: dict[str, np.ndarray], begin: dict[str, int]) -> tuple[dict[str, int], list[int]]:
    """What is chosen, and the penalty of every factorisation."""
    factorised = []

    def of_penalty(penalty: float, targets: tuple[str, ...]) -> dict[str, float]:
        factorised.append(NUMBERS[penalty])
        return {target: float(errors[target][NUMBERS[penalty]]) for target in targets}

    return walked(of_penalty, begin), factorised


@pytest.mark.parametrize("tokens", [25, 60, 900], ids=["fewer than concepts", "few", "many"])
def test_maps_and_penalties_are_those_of_the_eigendecomposition(tokens):
    fit, validation = products(codes_and_targets(0, tokens)), products(codes_and_targets(1, tokens // 4))
    expected = ridge_maps(fit, validation, SOURCE, TARGETS)
    maps = solved_maps(fit, validation, SOURCE, TARGETS)
    assert list(maps) == list(expected)
    for target, each in maps.items():
        np.testing.assert_allclose(each.weights, expected[target].weights, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(each.offset, expected[target].offset, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("some", [2, 7, 20, 40])
@pytest.mark.parametrize("tokens", [25, 60, 900], ids=["fewer than concepts", "few", "many"])
def test_whichever_columns_say_where_to_begin_the_penalties_are_those_of_least_error(tokens, some, monkeypatch):
    fit, validation = products(codes_and_targets(0, tokens)), products(codes_and_targets(1, tokens // 4))
    of_all = Regression(fit, SOURCE)
    least = {name: int(of_all.errors(validation, span, PENALTIES).argmin()) for name, span in TARGETS.items()}
    monkeypatch.setattr(wide_ridge, "SOME", some)
    assert chosen_penalties(fit, validation, SOURCE, TARGETS) == least


def test_a_walk_ends_at_the_least_error_from_everywhere_and_tries_no_more_than_the_way_and_its_sides():
    for least, begin in product(range(len(PENALTIES)), repeat=2):
        chosen, factorised = walked_in({"one": valley(least)}, {"one": begin})
        assert chosen == {"one": least}
        assert len(set(factorised)) == len(factorised) <= abs(least - begin) + 3
        assert set(factorised) <= set(range(min(least, begin) - 1, max(least, begin) + 2))


def test_of_equal_errors_the_smallest_penalty_is_chosen():
    for begin in range(len(PENALTIES)):
        assert walked_in({"one": np.maximum(valley(7), 2)}, {"one": begin})[0] == {"one": 7}


def test_targets_share_a_factorisation_where_both_ask_for_it():
    chosen, factorised = walked_in({"one": valley(4), "other": valley(4)}, {"one": 4, "other": 4})
    assert chosen == {"one": 4, "other": 4}
    assert len(factorised) == 3
    chosen, factorised = walked_in({"one": valley(2), "other": valley(12)}, {"one": 2, "other": 12})
    assert chosen == {"one": 2, "other": 12}
    assert len(factorised) == 6


def test_sources_that_never_vary_give_the_mean():
    rows = codes_and_targets(0, 50)
    rows[:, SOURCE] = 0
    each = solved_maps(products(rows[:40]), products(rows[40:]), SOURCE, TARGETS)["clear"]
    assert not each.weights.any()
    np.testing.assert_allclose(each.offset, rows[:, 40:45].mean(axis=0))
