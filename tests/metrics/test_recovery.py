import numpy as np
import pytest
from scipy.stats import ortho_group

from usae.codes import CodeChunk
from usae.metrics.recovery import Matches, match, one_to_one
from usae.metrics.universality import firing_entropy
from usae.metrics.verdicts import Finding, Pairings, discoveries, rules, scores, separation


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
    found = match([basis[order] * 3 for basis in bases], directions, correlations)
    assert found.codes.tolist() == [[2, 3, 5, -1], [2, 3, -1, 0]]
    assert found.joint.tolist() == [2, 3, 5, 0]
    np.testing.assert_allclose(found.cosines[:, :2], 1)
    assert np.isnan(found.cosines[0, 3])
    assert found.agreed.all()
    assert found.joined.all()


def test_an_index_that_differs_between_models_is_found_but_does_not_agree(planted):
    _, bases, directions = planted
    swapped = bases[1][[1, 0, 2, 3, 4, 5]]
    correlations = np.stack([np.eye(6, 4), np.eye(6, 4)[[1, 0, 2, 3, 4, 5]]])
    found = match([bases[0], swapped], directions, correlations)
    assert found.found[:, :2].all()
    assert found.agreed.tolist() == [False, False, True, True]
    assert found.joined.tolist() == [False, False, True, True]


def test_a_code_of_the_right_direction_that_never_fires_does_not_join(planted):
    _, bases, directions = planted
    silent = np.stack([np.eye(6, 4), np.eye(6, 4)])
    silent[1, 0, 0] = 0.4
    assert match(bases, directions, silent).joined.tolist() == [False, True, True, True]


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
    fires = (stacked > 0).sum(axis=(1, 2))
    cofires = (stacked > 0).all(axis=0).sum(axis=(0, 1))
    found = scores(fires, cofires, 240)
    p = Pairings([[chunk(part) for part in stacked]], 3, 0.1).p_values(199, np.random.default_rng(0))
    assert found["firing_entropy"][:2].tolist() == pytest.approx([1, 1])
    assert p[0] == 1 / 200
    assert p[1] > 0.05
    assert np.isnan(p[2])
    called = rules(found, p)
    assert called["entropy"].tolist() == [True, True, False]
    assert called["entropy and significant"].tolist() == [True, False, False]
    assert called["significant and proportion > 0.5"].tolist() == [True, False, False]


def test_pairings_move_whole_images_and_keep_entropy_and_places(stacked):
    pairings = Pairings([[chunk(part[:20]) for part in stacked], [chunk(part[20:]) for part in stacked]], 3, 0.1)
    images = np.arange(60)
    np.testing.assert_array_equal(pairings.cofires([images] * 3), (stacked > 0).all(axis=0).sum(axis=(0, 1)))
    partners = [images, np.roll(images, 7), np.roll(images, 11)]
    moved = np.stack([dense[rows] for dense, rows in zip(stacked, partners, strict=True)]) > 0
    np.testing.assert_array_equal(pairings.cofires(partners), moved.all(axis=0).sum(axis=(0, 1)))
    np.testing.assert_array_equal(
        firing_entropy(moved.sum(axis=(1, 2))), firing_entropy((stacked > 0).sum(axis=(1, 2)))
    )


def test_discoveries_are_benjamini_and_hochbergs():
    p = np.array([0.01, 0.02, np.nan, 0.04, 0.2])  # thresholds 0.0125, 0.025, 0.0375, 0.05
    assert discoveries(p).tolist() == [True, True, False, False, False]
    assert not discoveries(np.array([np.nan, np.nan])).any()


def test_separation_ranks_undefined_scores_last():
    values = np.array([3.0, 2.0, np.nan, 1.0])
    positive = np.array([True, False, True, False])
    assert separation(values, np.arange(4), positive, ~positive) == 0.5
    assert separation(values, np.array([0, 1, 0, 2]), positive, ~positive) == 1


def test_numbers_of_a_finding_add_up():
    owners = np.array([[1, 1], [1, 1], [1, 0], [0, 1]], dtype=bool)
    finding = Finding(
        "ideal",
        np.array(["shared", "shared", "private", "private"]),
        owners,
        Matches.exact(np.array([0, 1, 2, 2]), owners),
        {
            "firing_entropy": np.array([1.0, 0.96, 0.97]),
            "lift": np.array([50.0, 300.0, 1.0]),
            "cofire_proportion": np.array([0.9, 0.4, 0.1]),
        },
        np.array([0.001, 0.001, 0.8]),
    )
    numbers = finding.numbers().set_index(["quantity", "by", "kind"])["value"]
    assert numbers["auroc", "lift", "private"] == 1
    assert numbers["auroc", "firing_entropy", "private"] == 0.5
    assert numbers["called", "entropy", "private"] == 1
    assert numbers["called", "significant", "private"] == 0
    assert numbers["called", "significant and lift > 100", "shared"] == 0.5
    assert numbers["joined", "activity", "shared"] == numbers["cosine", "direction", "private"] == 1
    assert finding.concepts()["concept_id"].tolist() == [0, 1, 2, 2]
