import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from usae.common.numerics.ridge import PENALTIES, Products, Regression, ridge_r2, ridge_r2_others

SPANS = {"a": slice(0, 6), "b": slice(6, 10)}


def products(rows, origin=None, block=70):
    sums = Products.none(np.zeros(rows.shape[1]) if origin is None else origin)
    for start in range(0, len(rows), block):
        sums.update(rows[start : start + block])
    return sums


def world(seed, tokens, noise, offset=0.0):
    """b is linear in a, up to noise; both have means of their own."""
    rng = np.random.default_rng([seed, tokens])
    mix = np.random.default_rng(0).normal(size=(6, 4))
    a = rng.normal(size=(tokens, 6)) * [3, 1, 1, 0.5, 0.1, 2]
    b = a @ mix + noise * rng.normal(size=(tokens, 4))
    return np.concatenate([a + 2 + offset, b - 1 + offset], axis=1)


def test_sums_are_exact_whatever_the_origin_and_the_blocks():
    rows = world(0, 500, 1.0)
    expected = (rows - rows.mean(0)).T @ (rows - rows.mean(0)) / 500
    for origin in (None, rows[:9].mean(0)):
        sums = products(rows, origin)
        np.testing.assert_allclose(sums.about(sums.mean), expected, rtol=1e-10, atol=1e-12)
    halves = products(rows[:200]).merged(products(rows[200:]))
    np.testing.assert_allclose(halves.about(halves.mean), expected, rtol=1e-10, atol=1e-12)


def test_an_origin_near_the_mean_keeps_the_digits_of_float32():
    rows = world(0, 2000, 1.0, offset=1000.0).astype(np.float32)
    sums = products(rows, rows[:50].mean(0).astype(np.float64))
    np.testing.assert_allclose(sums.about(sums.mean), np.cov(rows.T.astype(np.float64), bias=True), atol=2e-4)


@pytest.mark.parametrize("noise", [0.1, 1.0, 30.0])
def test_errors_of_all_penalties_at_once_are_those_one_by_one(noise):
    train, test = products(world(1, 40, noise)), products(world(2, 30, noise))
    for source, target in (("a", "b"), ("b", "a"), ("a", "a")):
        regression = Regression(train, SPANS[source])
        one_by_one = regression.errors(test, SPANS[target], PENALTIES)
        np.testing.assert_allclose(regression.all_errors(test, SPANS[target]), one_by_one, rtol=1e-9, atol=1e-12)
        assert regression.best_penalty(test, SPANS[target]) == one_by_one.argmin()


def test_a_source_that_never_varies_has_the_first_penalty_and_the_error_of_the_mean():
    rows = world(1, 40, 1.0)
    rows[:, :6] = 2
    regression = Regression(products(rows), slice(0, 6))
    expected = rows[:, 6:].var(axis=0).sum()
    np.testing.assert_allclose(regression.all_errors(products(rows), SPANS["b"]), expected, rtol=1e-12)
    assert regression.best_penalty(products(rows), SPANS["b"]) == 0


@pytest.mark.parametrize("penalty", [0.0, 0.01, 3.0])
def test_errors_equal_those_of_the_map_solved_directly(penalty):
    train, test = world(1, 300, 1.0), world(2, 200, 1.0)
    for source, target in (("a", "b"), ("b", "a"), ("a", "a")):
        x, y = (train[:, SPANS[m]] - train[:, SPANS[m]].mean(0) for m in (source, target))
        strength = penalty * x.var(axis=0).mean() * len(x)
        weights = np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ y)
        guess = (test[:, SPANS[source]] - train[:, SPANS[source]].mean(0)) @ weights
        expected = ((test[:, SPANS[target]] - train[:, SPANS[target]].mean(0) - guess) ** 2).sum() / len(test)
        found = Regression(products(train), SPANS[source]).errors(
            products(test), SPANS[target], np.array([penalty])
        )
        assert found[0] == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_a_linear_relation_is_found_whole_and_noise_is_not():
    clean = [products(world(seed, 400, 0.0)) for seed in range(3)]
    r2 = ridge_r2(*clean, SPANS)
    assert r2["a", "a"] == pytest.approx(1, abs=1e-5)
    assert r2["a", "b"] == pytest.approx(1, abs=1e-5)
    assert 0.5 < r2["b", "a"] < 0.999
    noisy = ridge_r2(*(products(world(seed, 4000, 5.0)) for seed in range(3)), SPANS)
    signal = (np.random.default_rng(0).normal(size=(6, 4)) ** 2 * np.array([[9, 1, 1, 0.25, 0.01, 4]]).T).sum()
    assert noisy["a", "b"] == pytest.approx(signal / (signal + 4 * 25), abs=0.03)


def test_validation_chooses_a_penalty_that_spares_strangers():
    """Fewer tokens than channels: without a penalty the map would be noise."""
    rng = np.random.default_rng(3)
    spans = {"a": slice(0, 60), "b": slice(60, 63)}
    fit, validation, test = (products(rng.normal(size=(tokens, 63))) for tokens in (50, 50, 2000))
    assert -0.05 < ridge_r2(fit, validation, test, spans)["a", "b"] <= 0.02
    free = Regression(fit, spans["a"]).errors(test, spans["b"], PENALTIES)
    assert free[0] > 3 * free[-1]


def test_constant_activations_have_no_ceiling():
    flat = [products(np.full((20, 10), 3.0)) for _ in range(3)]
    assert all(np.isnan(value) for value in ridge_r2(*flat, SPANS).values())


def direct(x, y, penalty):
    """Weights and offset of the ridge regression of y on x, solved token by token."""
    deviations = x - x.mean(0)
    strength = penalty * x.var(axis=0).mean() * len(x)
    weights = np.linalg.solve(
        deviations.T @ deviations + strength * np.eye(x.shape[1]), deviations.T @ (y - y.mean(0))
    )
    return weights, y.mean(0) - x.mean(0) @ weights


def test_the_penalty_is_chosen_on_validation_and_r2_is_about_the_mean_of_test():
    """The test set's mean has moved, and its relation is the opposite one, so that it asks for another penalty."""
    spans = {"a": slice(0, 30), "b": slice(30, 34)}
    rng = np.random.default_rng(1)
    mix = rng.normal(size=(30, 4))
    splits = []
    for tokens, sign, shift in ((40, 1, 0.0), (30, 1, 0.0), (500, -1, 3.0)):
        a = rng.normal(size=(tokens, 30)) + shift
        splits.append(np.c_[a, sign * a @ mix + rng.normal(size=(tokens, 4))])
    (fit, validation, test), whole = splits, np.concatenate(splits[:2])

    def errors(rows, penalty, fitted):
        weights, offset = direct(fitted[:, :30], fitted[:, 30:], penalty)
        return ((rows[:, 30:] - rows[:, :30] @ weights - offset) ** 2).sum()

    best, tempting = (
        PENALTIES[np.argmin([errors(rows, penalty, fit) for penalty in PENALTIES])] for rows in (validation, test)
    )
    expected, about_training = (
        1 - errors(test, best, whole) / ((test[:, 30:] - rows[:, 30:].mean(0)) ** 2).sum()
        for rows in (test, whole)
    )
    found = ridge_r2(*(products(rows) for rows in splits), spans)["a", "b"]
    assert found == pytest.approx(expected, rel=1e-9)
    assert tempting != best
    assert abs(expected - about_training) > 0.01


def test_a_map_of_full_rank_is_the_ridge_and_lower_ranks_explain_less():
    sums = [products(world(seed, 400, 1.0)) for seed in range(3)]
    ranks = [ridge_r2(*sums, SPANS, rank) for rank in (1, 2, 4, 6)]
    full = ridge_r2(*sums, SPANS)
    for pair, value in full.items():
        assert ranks[-1][pair] == pytest.approx(value, abs=1e-12)
    assert ranks[2]["a", "b"] == pytest.approx(full["a", "b"], abs=1e-12)  # four channels
    assert [round(rank["a", "b"], 9) for rank in ranks[:3]] == sorted(
        round(rank["a", "b"], 9) for rank in ranks[:3]
    )
    assert ranks[0]["a", "b"] < full["a", "b"] - 0.1


def test_rank_k_of_a_model_itself_is_its_principal_components():
    rows = world(0, 3000, 1.0)[:, :6]
    sums = [products(rows)] * 3
    variances = np.sort(np.linalg.eigvalsh(np.cov(rows.T)))[::-1]
    for rank in (1, 3):
        explained = ridge_r2(*sums, {"a": slice(0, 6)}, rank)["a", "a"]
        assert explained == pytest.approx(variances[:rank].sum() / variances.sum(), abs=1e-5)


def test_a_planted_map_of_rank_one_is_found_by_rank_one():
    """On the tokens that it is fitted on no map of rank 1 errs less than the least-squares one."""
    rng = np.random.default_rng(5)
    direction, answer = rng.normal(size=(6, 1)), rng.normal(size=(1, 4))
    splits = []
    for tokens in (900, 300, 300):
        a = rng.normal(size=(tokens, 6))
        splits.append(products(np.c_[a, a @ direction @ answer]))
    found = [ridge_r2(*splits, SPANS, rank)["a", "b"] for rank in (1, None)]
    np.testing.assert_allclose(found, 1, atol=1e-6)


def test_all_other_models_know_at_least_what_one_of_them_knows():
    """c is the sum of parts of a and of b, which know nothing of each other."""
    spans = {"a": slice(0, 3), "b": slice(3, 7), "c": slice(7, 9)}
    rng = np.random.default_rng(2)
    mixes = rng.normal(size=(3, 2)), rng.normal(size=(4, 2))
    splits = []
    for tokens in (2000, 500, 2000):
        a, b = rng.normal(size=(tokens, 3)), rng.normal(size=(tokens, 4))
        splits.append(products(np.c_[a, b, a @ mixes[0] + b @ mixes[1]]))
    single, others = ridge_r2(*splits, spans), ridge_r2_others(*splits, spans)
    assert others["c"] == pytest.approx(1, abs=1e-6)
    power = [(mix**2).sum() for mix in mixes]
    assert single["a", "c"] == pytest.approx(power[0] / sum(power), abs=0.04)
    for target, value in others.items():
        assert all(value >= single[source, target] - 1e-3 for source in spans if source != target)
    assert ridge_r2_others(*splits, {"a": slice(0, 9)}) == {}


def test_two_models_are_all_others_of_each_other():
    sums = [products(world(seed, 400, 1.0)) for seed in range(3)]
    single, others = ridge_r2(*sums, SPANS), ridge_r2_others(*sums, SPANS)
    assert others == {
        "a": pytest.approx(single["b", "a"], abs=1e-12),
        "b": pytest.approx(single["a", "b"], abs=1e-12),
    }


def test_with_other_threads_of_blas_r2_moves_by_less_than_a_millionth():
    rng = np.random.default_rng(0)
    causes, mix = rng.normal(size=(9000, 40)), rng.normal(size=(40, 500))
    rows = (causes @ mix + 3 * rng.normal(size=(9000, 500)) + 5).astype(np.float32)
    spans, found = {"a": slice(0, 300), "b": slice(300, 500)}, []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            sums = [products(part, rows[:64].mean(0), block=4000) for part in np.split(rows, [6000, 7500])]
        found.append(ridge_r2(*sums, spans))
    for pair, value in found[0].items():
        assert found[1][pair] == pytest.approx(value, abs=1e-6)
    assert 0.2 < found[0]["a", "b"] < 0.99
