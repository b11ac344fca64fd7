import numpy as np
import pytest
from scipy.stats import linregress

from usae.evidence.metrics.firing.importance import log_fit, partial_fit


def test_a_power_law_has_its_exponent_as_slope():
    cofires = np.array([1, 10, 100, 1000, 0])
    fit = log_fit(cofires, 0.5 * cofires**0.25)
    assert fit.r == pytest.approx(1)
    assert fit.slope == pytest.approx(0.25)
    assert fit.concepts == 4


def test_fit_equals_scipy_on_the_chosen_concepts():
    rng = np.random.default_rng(0)
    cofires, energies = rng.integers(0, 5000, 300), rng.gamma(2.0, size=300)
    chosen = cofires > 1000
    expected = linregress(np.log10(cofires[chosen]), np.log10(energies[chosen]))
    fit = log_fit(cofires, energies, above=1000)
    assert fit.concepts == chosen.sum()
    assert fit.r == pytest.approx(expected.rvalue)
    assert fit.slope == pytest.approx(expected.slope)


def test_too_few_concepts_or_no_spread_give_nan():
    assert np.isnan(log_fit(np.array([5, 6]), np.array([1.0, 2.0])).r)
    assert np.isnan(log_fit(np.array([5, 5, 5]), np.array([1.0, 2.0, 3.0])).r)
    assert np.isnan(log_fit(np.array([1, 2, 3]), np.array([0.1, 0.1, 0.1])).r)


def test_partialling_out_the_rates_removes_a_mechanical_correlation():
    rng = np.random.default_rng(0)
    rate = 10 ** rng.uniform(-3, -1, 2000)
    fires = np.stack([rate, rate]) * 1e6
    cofires = fires.prod(axis=0) / 1e6 * rng.lognormal(0, 0.2, 2000)
    energies = rate * rng.lognormal(0, 0.2, 2000)
    assert log_fit(cofires, energies).r > 0.9
    assert abs(partial_fit(cofires, energies, fires).r) < 0.06
