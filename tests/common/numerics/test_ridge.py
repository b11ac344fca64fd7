import numpy as np
import pytest

from usae.common.numerics.ridge import PENALTIES, Products, Regression, ridge_r2

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


def test_the_penalty_is_the_validation_tokens_choice_and_r2_is_about_the_means_of_the_test_tokens():
    """The test tokens, of the opposite relation and another mean, would choose the largest penalty."""
    rng = np.random.default_rng(4)
    mix, spans = rng.normal(size=(30, 2)), {"a": slice(0, 30), "b": slice(30, 32)}

    def rows(tokens, slope, mean):
        a = rng.normal(size=(tokens, 30))
        return np.concatenate([a, slope * a @ mix + 4 * rng.normal(size=(tokens, 2)) + mean], axis=1)

    fit, validation, test = rows(40, 1, 0.0), rows(40, 1, 0.0), rows(400, -1, 2.0)

    def guess(train, tokens, penalty):
        x, y = train[:, :30] - train[:, :30].mean(0), train[:, 30:] - train[:, 30:].mean(0)
        strength = penalty * x.var(axis=0).mean() * len(x)
        weights = np.linalg.solve(x.T @ x + strength * np.eye(30), x.T @ y)
        return train[:, 30:].mean(0) + (tokens[:, :30] - train[:, :30].mean(0)) @ weights

    def best(judges):
        errors = [np.square(judges[:, 30:] - guess(fit, judges, penalty)).sum() for penalty in PENALTIES]
        return PENALTIES[np.argmin(errors)]

    assert PENALTIES[0] < best(validation) < best(test)
    wanted = test[:, 30:]
    error = np.square(wanted - guess(np.concatenate([fit, validation]), test, best(validation))).sum()
    expected = 1 - error / np.square(wanted - wanted.mean(0)).sum()
    r2 = ridge_r2(products(fit), products(validation), products(test), spans)
    assert r2["a", "b"] == pytest.approx(expected, abs=1e-9)
