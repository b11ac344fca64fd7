import numpy as np
import pytest

from usae.evidence.metrics.reconstruction.r2 import Reconstruction, r2


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(6, 5, 4)) * [1, 2, 3, 4] + [0, 1, -5, 9]
    return truth, truth + rng.normal(size=truth.shape)


def added(parts):
    table = Reconstruction("usae", "val")
    for truth, guess in parts:
        table.update("language", truth, [("supervised", guess)])
    return table


def value(table, centre="scalar", epsilon=0.0):
    return r2(table.residuals["supervised", "language"], table.moments["language"], centre, epsilon)


def test_r2_equals_its_three_definitions(pair):
    truth, guess = pair
    rows = truth.reshape(-1, 4)
    residual = ((truth - guess) ** 2).sum()
    table = added([pair])
    assert value(table) == pytest.approx(1 - residual / ((truth - truth.mean()) ** 2).sum())
    assert value(table, "channel") == pytest.approx(1 - residual / ((rows - rows.mean(axis=0)) ** 2).sum())
    assert value(table, "none") == pytest.approx(1 - residual / (truth**2).sum())


def test_chunks_of_any_size_give_the_sum_over_the_whole_set(pair):
    truth, guess = pair
    whole = added([pair])
    parts = added([(truth[:1], guess[:1]), (truth[1:5], guess[1:5]), (truth[5:], guess[5:])])
    for centre in ("scalar", "channel", "none"):
        assert value(parts, centre) == pytest.approx(value(whole, centre), rel=1e-13)


def test_it_is_not_the_mean_over_batches(pair):
    truth, guess = pair
    halves = [value(added([(truth[s], guess[s])])) for s in (slice(0, 3), slice(3, 6))]
    assert value(added([pair])) != pytest.approx(np.mean(halves), rel=1e-6)


def test_merge_equals_one_pass(pair):
    truth, guess = pair
    left, right = added([(truth[:2], guess[:2])]), added([(truth[2:], guess[2:])])
    left.merge(right)
    whole = added([pair])
    for key, number in whole.rows(["supervised", "language"])[0].items():
        assert left.rows(["supervised", "language"])[0][key] == (
            pytest.approx(number, rel=1e-13) if isinstance(number, float) else number
        )


def test_a_large_mean_does_not_eat_the_variance():
    rng = np.random.default_rng(0)
    truth = (rng.normal(size=(10_000, 2)) + 1e7).astype(np.float64)
    guess = truth + 0.5 * rng.normal(size=truth.shape)
    assert value(added([(truth, guess)]), "channel") == pytest.approx(0.75, abs=0.01)
    assert value(added([(part, part) for part in np.array_split(truth, 7)]), "channel") == 1


def test_predicting_the_mean_scores_zero(pair):
    truth, _ = pair
    scalar = np.full_like(truth, truth.mean())
    channels = np.broadcast_to(truth.reshape(-1, 4).mean(axis=0), truth.shape)
    assert value(added([(truth, scalar)])) == pytest.approx(0, abs=1e-12)
    assert value(added([(truth, channels)]), "channel") == pytest.approx(0, abs=1e-12)


def test_a_constant_target_has_no_r2_without_epsilon():
    constant = np.full((3, 2), 2.0)
    assert np.isnan(value(added([(constant, constant + 0.5)])))
    assert value(added([(constant, constant + 0.5)]), epsilon=1e-6) == pytest.approx(-249999, rel=1e-9)


def test_rows_follow_the_order_of_models(pair):
    truth, guess = pair
    table = Reconstruction("usae", "val")
    for target in ("b", "a"):
        table.update(target, truth, [("b", guess), ("a", guess)])
    rows = table.rows(["a", "b"])
    assert [(row["source"], row["target"]) for row in rows] == [("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")]
    assert rows[0]["tokens"] == 30
    assert rows[0]["mse"] == pytest.approx(((truth - guess) ** 2).mean())
