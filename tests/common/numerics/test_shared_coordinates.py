import numpy as np
import pytest

from usae.common.numerics.shared_coordinates import largest_value, shared_coordinates

ONE_EACH = {"a": slice(0, 1), "b": slice(1, 2), "c": slice(2, 3)}


def test_three_copies_of_one_signal_share_it_wholly():
    shared = shared_coordinates(np.ones((3, 3)), ONE_EACH, penalty=0)
    np.testing.assert_allclose(shared.values, [3, 0, 0], atol=1e-12)
    assert shared.correlations[0] == pytest.approx(1)
    assert largest_value(np.ones((3, 3)), ONE_EACH, penalty=0) == pytest.approx(3)


@pytest.mark.parametrize("r", [0.0, 0.3, -0.8])
def test_two_views_have_one_plus_and_one_minus_their_correlation(r):
    spans = {"a": slice(0, 1), "b": slice(1, 2)}
    covariance = np.array([[4.0, 2 * r], [2 * r, 1.0]])  # units do not matter
    shared = shared_coordinates(covariance, spans, penalty=0)
    np.testing.assert_allclose(shared.values, [1 + abs(r), 1 - abs(r)], atol=1e-12)
    assert shared.correlations[0] == pytest.approx(abs(r))


def test_the_penalty_is_in_units_of_a_models_mean_variance():
    value = largest_value(np.ones((3, 3)), ONE_EACH, penalty=0.1)
    assert value == pytest.approx(1 + 2 / 1.1)
    assert largest_value(100 * np.ones((3, 3)), ONE_EACH, penalty=0.1) == pytest.approx(value)


def test_a_shared_signal_is_found_among_others_and_read_from_each_model_alone():
    rng = np.random.default_rng(0)
    signal, own = rng.normal(size=(5000, 1)), rng.normal(size=(5000, 5))
    rows = np.concatenate([signal + own[:, :1], own[:, :2], own[:, 2:4], signal, own[:, 4:]], axis=1)
    spans = {"a": slice(0, 3), "b": slice(3, 7)}
    shared = shared_coordinates(np.cov(rows.T, bias=True), spans)
    assert shared.correlations[0] == pytest.approx(1, abs=0.01)  # a knows what to take away
    assert shared.correlations[1] < 0.1
    for model, span in spans.items():
        read = rows[:, span] @ shared.weights[model][:, 0]
        assert abs(np.corrcoef(read, signal[:, 0])[0, 1]) == pytest.approx(1, abs=0.01)


def test_a_channel_that_never_changes_has_no_part():
    covariance = np.array([[0.0, 0, 0], [0, 1, 0.5], [0, 0.5, 1]])
    spans = {"a": slice(0, 2), "b": slice(2, 3)}
    shared = shared_coordinates(covariance, spans, penalty=0)
    assert shared.values[0] == pytest.approx(1.5)
    assert np.isfinite(shared.weights["a"]).all()
