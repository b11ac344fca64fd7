"""Counts of concepts, made anew where images are resampled."""

import numpy as np
import pandas as pd
import pytest

from usae.evidence.metrics.contrast.numbers import LESS, SHARED, UNIVERSAL, Counted, counted, run_less
from usae.evidence.metrics.contrast.resampling import DEVIATIONS, Draws
from usae.evidence.metrics.funnel import Thresholds

AGREEMENT = np.array([0.15, 0.25, 0.09, 0.25, 0.5])
CHANCE = np.array([0.01, 0.01, 0.01, 0.2, 0.01])
BAR = 0.1


@pytest.fixture
def run():
    """Of five concepts the last is not significant, the third agrees too little, the fourth by chance."""
    columns = {
        "concept_id": range(5), "models_alive": 2, "fires_least": 30, "cofires": 9, "null_mean": 2.0,
        "cofire_proportion_min": AGREEMENT, "agreement_beyond_chance": AGREEMENT - CHANCE,
        "lift": 3.0, "p": 0.01, "q": [0.01] * 4 + [0.5], "run": "usae", "start": False,
    }  # fmt: skip
    return pd.DataFrame(columns)


@pytest.fixture
def matches():
    columns = {"correlation": 0.9, "correlation_least": [0.8, 0.2, 0.8, 0.8, 0.8], "start": False, "run": "usae"}
    halves = [pd.DataFrame(columns).assign(concept_id=range(5), against=half) for half in ("half-1", "half-2")]
    return pd.concat(halves)


def test_a_resample_like_the_images_themselves_counts_the_same(run, matches):
    found = counted(run.iloc[::-1], matches, "usae", False, 2, BAR, Thresholds(0.1))
    assert found[SHARED].passed.tolist() == [True, True, False, False, False]
    assert found[UNIVERSAL].passed.tolist() == [True, False, False, False, False]
    for own in found.values():
        assert own.drawn(AGREEMENT[None]).tolist() == [own.passed.sum()]
        np.testing.assert_allclose(own.bar, BAR + CHANCE)


def test_a_resample_asks_for_agreement_and_for_more_than_chance_and_untrained_networks(run, matches):
    draws = np.array([
        [0.105, 0.10, 0.11, 0.29, 0.9],  # the second is not beyond the bar, the fourth not beyond that and chance
        [0.12, 0.12, 0.12, 0.31, 0.9],  # all agree enough; the last stays out
        [np.nan, 0.05, 0.05, 0.05, 0.9],
    ])  # fmt: skip
    found = counted(run, matches, "usae", False, 2, BAR, Thresholds(0.1))
    assert found[SHARED].drawn(draws).tolist() == [0, 4, 0]
    assert found[UNIVERSAL].drawn(draws).tolist() == [0, 3, 0]
    more = counted(run, matches, "usae", False, 2, BAR, Thresholds(0.3))
    assert more[SHARED].drawn(draws).tolist() == [0, 1, 0]
    free = Counted(*(np.ones(5, bool),) * 2, 0.1, np.full(5, -np.inf))
    assert free.drawn(draws).tolist() == [5, 5, 1]


def test_without_halves_nothing_is_universal(run, matches):
    assert set(counted(run, matches.iloc[:0], "usae", False, 2, BAR, Thresholds(0.1))) == {SHARED}
    other = counted(run.assign(run="seed-1"), matches, "seed-1", False, 2, BAR, Thresholds(0.1))
    assert set(other) == {SHARED}


def test_the_run_less_a_control_is_of_the_same_resamples():
    rows = pd.DataFrame(
        {"run": ["usae", "shuffled", "shuffled"], "measure": ["r2_cross_mean", "r2_cross_mean", "alive"]}
    ).assign(value=[0.4, 0.1, 20.0])
    rows.loc[len(rows)] = "usae", "r2_self_mean", 0.8
    rows.loc[len(rows)] = "shuffled", "r2_self_mean", 0.9
    shift = np.array([-0.1, 0.0, 0.1])
    agreement = np.empty(0)
    draws = {
        "usae": Draws(agreement, 0.8 + shift, 0.4 + shift),
        "shuffled": Draws(agreement, 0.9 - shift, 0.1 + shift),
    }
    found = run_less(rows, draws).set_index(["run", "measure"])[LESS]
    np.testing.assert_allclose(
        found.loc[("shuffled", "r2_cross_mean")], [0.3, 0.3, 0.3]
    )  # both move with the images
    reach = DEVIATIONS * np.std(2 * shift, ddof=1)
    np.testing.assert_allclose(found.loc[("shuffled", "r2_self_mean")], [-0.1, -0.1 - reach, -0.1 + reach])
    assert found.loc[[("usae", "r2_cross_mean"), ("shuffled", "alive")]].isna().all(axis=None)
