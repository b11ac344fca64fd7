import numpy as np
import pytest
from scipy.stats import ortho_group

from usae.evidence.planted.recovery import followed, match, one_to_one


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


def test_a_code_follows_a_concept_where_it_is_the_first_in_every_model():
    correlations = np.array([[[0.9, 0.1], [0.3, 0.2]], [[0.4, 0.3], [0.1, 0.2]]])  # (models, codes, concepts)
    assert followed(correlations).tolist() == [0, -1]
