import numpy as np
import pytest

from usae.evidence.interventions.readouts import Targets, common_targets, fit_readouts, mean_codes, through_decoder
from usae.evidence.metrics.labels.labels import ImageLabels, TokenLabels
from usae.evidence.metrics.reconstruction.passes import features

EVERY = np.arange(5)


def test_an_image_carries_what_one_of_its_tokens_carries(linear_world):
    causes = linear_world.causes["val"]
    units, carried = Targets(linear_world.labels["val"], 4, EVERY).labelled_units(np.arange(3, 9))
    assert units.tolist() == list(range(6))
    assert (carried == causes[3:9].any(axis=1)).all()


def test_tokens_carry_their_own_labels(linear_world):
    targets = Targets(linear_world.labels["val"], 4, np.array([4, 1])).at_finest_unit()
    units, carried = targets.labelled_units(np.arange(3, 9))
    assert units.tolist() == list(range(24))
    assert (carried == (linear_world.causes["val"][3:9].reshape(24, 5)[:, [4, 1]] > 0)).all()


def test_classes_stay_with_images_and_the_unlabelled_are_left_out():
    targets = Targets(
        ImageLabels(("x", "y", "z"), np.array([0, -1, 2, 1, 2])), 4, np.array([0, 2])
    ).at_finest_unit()
    assert targets.unit == "image"
    units, carried = targets.labelled_units(np.arange(5))
    assert units.tolist() == [0, 2, 4]
    assert carried.tolist() == [[True, False], [False, True], [False, True]]
    assert targets.names == ("x", "z")


def test_labels_with_too_few_images_to_train_or_test_are_dropped():
    names = ("everywhere", "rare", "fine", "untested", "good")
    train = np.zeros((40, 1, 1, 5), np.uint8)
    train[:, ..., 0], train[:9, ..., 1], train[:10, ..., 2], train[:20, ..., 3], train[5:25, ..., 4] = [255] * 5
    val = np.zeros((4, 1, 1, 5), np.uint8)
    val[:2, ..., [0, 1, 2, 4]] = 255
    splits = common_targets(TokenLabels(names, train), TokenLabels(names, val), (40, 4), 1)
    assert [split.names for split in splits] == [("fine", "good")] * 2
    assert common_targets(TokenLabels(names[:4], train[..., :4]), TokenLabels(names, val), (40, 4), 1) is None
    assert common_targets(TokenLabels(names, train), TokenLabels(names, val), (9, 4), 1) is None
    assert common_targets(None, TokenLabels(names, val), (40, 4), 1) is None


@pytest.mark.parametrize("unit", ["image", "token"])
def test_a_linear_label_is_read_exactly(linear_world, unit):
    """Tokens: a label is a cause, so the readout inverts the map. Images: labels are not linear in the means."""
    study, causes = linear_world.study, linear_world.causes["val"]
    targets = Targets(linear_world.labels["train"], 4, EVERY, unit)
    readouts = fit_readouts(study.sae, study.train, targets, 120)
    rows = causes.reshape(-1, 5) if unit == "token" else causes.mean(axis=1)
    for model, readout in readouts.items():
        scores = readout(features(study.sae, model, study.val[model], np.arange(40), unit))
        through_codes = through_decoder(study.sae, model, readout)(rows)
        np.testing.assert_allclose(through_codes, scores, atol=1e-5)
        if unit == "token":
            np.testing.assert_allclose(scores, rows, atol=1e-4)


def test_mean_codes_are_means_over_tokens(linear_world):
    chunk = linear_world.study.codes["usae"]["a"].chunk(1)
    np.testing.assert_allclose(mean_codes(chunk, 5).toarray(), linear_world.causes["val"][16:32].mean(axis=1))
