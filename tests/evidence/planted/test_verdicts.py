"""Rules and scores of codes whose sharing is known."""

import numpy as np
import pandas as pd
import pytest

from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.firing.counts import FiringCounts
from usae.evidence.planted.likeness import least_correlations
from usae.evidence.planted.recovery import Matches
from usae.evidence.planted.verdicts import against_chance, concept_rows, precision_rows, rules, universality_scores
from usae.evidence.planted.world import PlantedWorld


@pytest.fixture
def codes():
    """Three models, 80 images of 4 tokens. Concept 0 fires in all at once; concept 1 as often, but in each model
    alone; concept 2 is dead; concept 3 fires in two models at once, in the third alone."""
    rng = np.random.default_rng(1)
    dense = np.zeros((3, 80, 4, 4))
    dense[..., 0] = rng.random((80, 4)) < 0.2
    dense[..., 3] = rng.random((80, 4)) < 0.4
    for model in range(3):
        dense[model, ..., 1] = np.roll(rng.permutation(80) < 16, model)[:, None]
    dense[2, ..., 3] = rng.random((80, 4)) < 0.4
    indices = np.broadcast_to(np.arange(4), dense.shape[1:])
    return tuple(CodeChunk(np.arange(80), indices, model.astype(np.float32)) for model in dense)


@pytest.fixture
def counts(codes):
    firing = FiringCounts(3, 4, 0.1)
    firing.update(codes)
    return firing


def test_two_models_that_agree_are_dependent_but_do_not_share_with_the_third(codes, counts):
    tested, dependent = against_chance(counts, [codes], 199, 0)
    correlations = least_correlations([codes], 4)
    called = rules(tested, dependent, correlations, 3, agreement=0.1)
    assert called["entropy"].tolist() == [True, True, False, True]
    assert called["dependent"].tolist() == [True, False, False, True]
    for rule in ("significant", "funnel", "alike"):
        assert called[rule].tolist() == [True, False, False, False]
    assert rules(tested, dependent, correlations, 3, agreement=1.01)["funnel"].tolist() == [False] * 4
    assert not rules(tested, dependent, correlations - 0.7, 3, agreement=0.1)["alike"].any()


def test_scores_are_not_defined_where_a_concept_is_dead(counts):
    scores = universality_scores(counts, np.zeros(4))
    undefined = {name: np.flatnonzero(np.isnan(values)).tolist() for name, values in scores.items()}
    assert undefined == {"firing_entropy": [2], "cofire_proportion_min": [2], "correlation_min": [], "lift": [2]}
    assert scores["cofire_proportion_min"][0] == 1
    assert scores["lift"][0] > 20 > 2 > scores["lift"][1]


def test_rows_of_concepts_and_of_codes(params):
    small = {"widths": (4, 4), "shared": 2, "pairwise": 0, "private": 1, "twins": 0}
    world = PlantedWorld.draw(params.planted.world.model_copy(update=small), 0)
    matches = Matches.exact(np.array([1, 0, 2, 2]), world.owners)
    scores, called = {"lift": np.array([3.0, 2.0, 1.0])}, {"funnel": np.array([True, False, True])}
    rows = concept_rows(world, matches, scores, np.array([0.1, 0.2, 0.3]), called)
    assert rows["concept_id"].tolist() == [1, 0, 2, 2]
    assert rows["p"].tolist() == [0.2, 0.1, 0.3, 0.3]
    assert rows["called_funnel"].tolist() == [False, True, True, True]
    assert rows[["found", "cosine", "tracked"]].to_numpy(dtype=float).tolist() == [[1.0] * 3] * 4
    expected = pd.DataFrame({"shared": [True, True, False], **scores, "called_funnel": called["funnel"]})
    pd.testing.assert_frame_equal(precision_rows(world, matches, scores, called), expected)
