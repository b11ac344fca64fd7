"""Table `planted` from concepts and codes whose numbers are known."""

import numpy as np
import pandas as pd
import pytest

from usae.common.numerics.intervals import wilson
from usae.evidence.planted.summary import separation, summary
from usae.evidence.planted.verdicts import RULES


@pytest.fixture
def concepts():
    """Two seeds; in each two shared concepts and two others, the last of which is not tracked."""
    one = pd.DataFrame(
        {
            "setting": "matched",
            "seed": 0,
            "kind": ["shared", "shared", "pair", "private"],
            "best_cosine": [1.0, 0.8, 0.6, 0.2],
            "found": [1.0, 0.5, 0.0, 0.0],
            "agreed": [True, False, False, False],
            "tracked": [True, True, True, False],
            "firing_entropy": [1.0, 0.9, 0.95, 0.0],
            "cofire_proportion_min": [0.9, 0.8, 0.1, np.nan],
            "correlation_min": [0.9, 0.8, 0.1, 0.0],
            "lift": [50.0, 40.0, 2.0, np.nan],
            "called_entropy": [True, False, True, False],
            "called_dependent": [True, True, True, True],
            "called_significant": [True, True, False, True],
            "called_funnel": [True, True, False, True],
            "called_alike": [True, False, False, False],
        }
    )
    other = one.assign(seed=1, best_cosine=one["best_cosine"] - 0.1, lift=[50.0, 1.0, 2.0, np.nan])
    return pd.concat([one, other], ignore_index=True)


@pytest.fixture
def rows(concepts):
    columns = {f"called_{rule}": [True, True, False] for rule in RULES}
    codes = pd.DataFrame({"setting": "matched", "seed": 0, "shared": [True, False, True], **columns})
    return summary(concepts, codes).set_index(["quantity", "by", "kind"]).sort_index()


def values(rows, *key):
    return rows.loc[key, ["value", "low", "high", "planted"]].tolist()


def test_shares_are_of_all_seeds_with_wilsons_interval(rows):
    assert values(rows, "found", "direction", "shared") == [0.75, *wilson(0.75, 4), 4]
    assert values(rows, "agreed", "direction", "shared") == [0.5, *wilson(0.5, 4), 4]
    assert values(rows, "tracked", "activity", "others") == [0.5, *wilson(0.5, 4), 4]


def test_rules_are_judged_on_tracked_concepts_and_on_codes(rows):
    assert values(rows, "called universal", "funnel", "shared") == [1, *wilson(1, 4), 4]
    assert values(rows, "called universal", "funnel", "others") == [0, *wilson(0, 2), 2]
    assert values(rows, "called universal", "entropy", "others") == [1, *wilson(1, 2), 2]
    nothing = values(rows, "called universal", "funnel", "private")
    assert np.isnan(nothing[0])
    assert nothing[1:] == [0, 1, 0]
    assert values(rows, "precision", "funnel", "shared") == [0.5, *wilson(0.5, 2), 2]


def test_cosines_and_aurocs_stand_between_the_least_and_the_largest_seed(rows):
    assert values(rows, "cosine", "direction", "shared") == pytest.approx([0.85, 0.8, 0.9, 4])
    assert values(rows, "auroc", "lift", "pair") == [0.75, 0.5, 1, 6]
    assert ("auroc", "lift", "shared") not in rows.index


def test_separation_ranks_undefined_scores_last():
    positive, negative = pd.Series([3.0, np.nan]), pd.Series([2.0, 1.0])
    assert separation(positive, negative) == 0.5
    assert separation(positive[:1], negative) == 1
    assert np.isnan(separation(positive[:0], negative))
