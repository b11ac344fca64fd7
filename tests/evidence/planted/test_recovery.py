import numpy as np
import pandas as pd
import pytest
from scipy.stats import ortho_group

from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.firing.counts import FiringCounts
from usae.evidence.metrics.firing.evidence import evidence
from usae.evidence.metrics.firing.nulls import CofireNulls
from usae.evidence.planted.recovery import Matches, match, one_to_one
from usae.evidence.planted.verdicts import SettingResult, rules, separation, universality_scores


def chunk(dense):
    """Codes (b, t, c), all of them kept."""
    indices = np.broadcast_to(np.arange(dense.shape[2]), dense.shape)
    return CodeChunk(np.arange(len(dense)), indices, dense.astype(np.float32))


@pytest.fixture
def planted():
    """Two models of width 6; concepts 0 and 1 are shared, 2 belongs to the first model, 3 to the second."""
    owners = np.array([[1, 1], [1, 1], [1, 0], [0, 1]], dtype=bool)
    bases = [ortho_group.rvs(6, random_state=seed) for seed in (0, 1)]
    return owners, bases, [owners[:, [model]] * basis[:4] for model, basis in enumerate(bases)]


def test_permuted_dictionaries_are_matched_exactly(planted):
    _, bases, directions = planted
    order = np.array([3, 5, 0, 1, 4, 2])  # the basis vector in each code; 4 and 5 are no concepts
    correlations = np.zeros((2, 6, 4))
    for code, concept in enumerate(order):
        correlations[:, code, concept if concept < 4 else 0] = concept < 4
    matches = match([basis[order] * 3 for basis in bases], directions, correlations)
    assert matches.codes.tolist() == [[2, 3, 5, -1], [2, 3, -1, 0]]
    assert matches.joint.tolist() == [2, 3, 5, 0]
    np.testing.assert_allclose(matches.cosines[:, :2], 1)
    assert np.isnan(matches.cosines[0, 3])
    assert matches.agreed.all()
    assert matches.tracked.all()


def test_an_index_that_differs_between_models_is_found_but_does_not_agree(planted):
    _, bases, directions = planted
    swapped = bases[1][[1, 0, 2, 3, 4, 5]]
    correlations = np.stack([np.eye(6, 4), np.eye(6, 4)[[1, 0, 2, 3, 4, 5]]])
    matches = match([bases[0], swapped], directions, correlations)
    assert matches.found[:, :2].all()
    assert matches.agreed.tolist() == [False, False, True, True]
    assert matches.tracked.tolist() == [False, False, True, True]


def test_a_code_of_the_right_direction_that_does_not_follow_the_concept_does_not_track_it(planted):
    _, bases, directions = planted
    silent = np.stack([np.eye(6, 4), np.eye(6, 4)])
    silent[1, 0, 0] = 0.4
    assert match(bases, directions, silent).tracked.tolist() == [False, True, True, True]


def test_matching_is_one_to_one_and_best_in_total():
    assert one_to_one(np.array([[0.9, 0.8], [0.8, 0.1], [0.0, 0.0]])).tolist() == [1, 0]


@pytest.fixture
def stacked():
    """Three models, 60 images of 4 tokens. Concept 0 fires in all at once; concept 1 as often, but in each model
    alone; concept 2 is dead."""
    rng = np.random.default_rng(1)
    dense = np.zeros((3, 60, 4, 3))
    dense[..., 0] = rng.random((60, 4)) < 0.2
    for model in range(3):
        dense[model, ..., 1] = np.roll(rng.permutation(60) < 12, model)[:, None]
    return dense


def test_lift_separates_what_entropy_does_not(stacked):
    codes = [chunk(dense) for dense in stacked]
    firing, nulls = FiringCounts(3, 3, 0.1), CofireNulls(3, 3, 0.1, 199, 0, 60)
    for sums in (firing, nulls):
        sums.update(codes)
    nulls.finish()
    tested = evidence(firing, nulls.counts["images", (0, 1, 2)])
    assert tested["cofires"].tolist() == [(stacked[..., 0] > 0).all(axis=0).sum(), tested["cofires"][1], 0]
    assert tested["p"][0] < 1 / 200
    assert tested["p"][1] > 0.05
    assert np.isnan(tested["p"][2])
    scores = universality_scores(firing.fires, firing.cofires, firing.tokens)
    assert scores["firing_entropy"][:2].tolist() == pytest.approx([1, 1])
    universal = rules(scores, tested, 3)
    assert universal["entropy"].tolist() == [True, True, False]
    assert universal["funnel"].tolist() == [True, False, False]
    assert rules(scores, tested.assign(cofires=[19, 19, 0]), 3)["funnel"].tolist() == [False] * 3
    assert universal["entropy and significant"].tolist() == [True, False, False]
    assert universal["significant and proportion > 0.5"].tolist() == [True, False, False]


def test_separation_ranks_undefined_scores_last():
    values = np.array([3.0, 2.0, np.nan, 1.0])
    positive = np.array([True, False, True, False])
    assert separation(values, np.arange(4), positive, ~positive) == 0.5
    assert separation(values, np.array([0, 1, 0, 2]), positive, ~positive) == 1


def test_the_quantities_of_a_setting_add_up():
    owners, p = np.array([[1, 1], [1, 1], [1, 0], [0, 1]], dtype=bool), np.array([0.001, 0.001, 0.8])
    result = SettingResult(
        "ideal",
        np.array(["shared", "shared", "private", "private"]),
        owners,
        Matches.exact(np.array([0, 1, 2, 2]), owners),
        {
            "firing_entropy": np.array([1.0, 0.96, 0.97]),
            "lift": np.array([50.0, 300.0, 1.0]),
            "cofire_proportion_min": np.array([0.9, 0.4, 0.1]),
        },
        pd.DataFrame(
            {
                "models_alive": 2,
                "fires_least": 50,
                "cofires": 30,
                "cofire_proportion_min": 0.3,
                "null_mean": 3.0,
                "lift": 10.0,
                "p": p,
                "q": p,
            }
        ),
        0.1,
    )
    quantities = result.quantities().set_index(["quantity", "by", "kind"])["value"]
    assert quantities["auroc", "lift", "private"] == 1
    assert quantities["auroc", "firing_entropy", "private"] == 0.5
    assert quantities["called universal", "entropy", "private"] == 1
    assert (
        quantities["called universal", "significant", "private"]
        == quantities["called universal", "funnel", "private"]
        == 0
    )
    assert quantities["called universal", "funnel", "shared"] == 1
    assert quantities["called universal", "significant and lift > 100", "shared"] == 0.5
    assert quantities["tracked", "activity", "shared"] == quantities["cosine", "direction", "private"] == 1
    assert result.concepts()["concept_id"].tolist() == [0, 1, 2, 2]
