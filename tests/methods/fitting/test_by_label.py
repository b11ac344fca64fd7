"""An atlas asked by label: by hand."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from tests.support.materials import material_of
from usae.evidence.metrics.labels.single import LabelledImages
from usae.methods.fitting.by_label import Steering, ranks, shares, specific
from usae.methods.fitting.label_tokens import LabelTokens, label_tokens, summed


def test_a_push_counts_by_what_it_does_to_the_other_labels_less():
    readout = np.array([[3.0, 1.0, 2.0]])  # one channel, three labels
    directions = np.array([[1.0], [1.0], [-1.0]])
    np.testing.assert_allclose(specific(readout, directions), [3 - 1.5, 1 - 2.5, -(2 - 2)])
    np.testing.assert_allclose(specific(readout, np.stack([directions, -directions]))[1], [-1.5, 1.5, 0])


def test_shares_are_of_the_native_mean_over_models_and_labels():
    drawn = np.linspace(0, 1, 101)[:, None] * np.ones((101, 2))
    pushes = [
        Steering(np.array([1.0, 2.0]), np.array([4.0, 2.0]), drawn),
        Steering(np.array([0.0, 1.0]), np.array([1.0, 1.0]), drawn),
    ]
    found = shares(pushes)
    assert (found["steering_native"], found["steering_share"]) == (2, 0.5)
    assert found["steering_share_random"] == pytest.approx(0.95 / 2)
    assert np.isnan(shares([Steering(np.ones(2), -np.ones(2), drawn)])["steering_share"])


def test_places_are_counted_from_the_nearest():
    cosines = np.array([[0.9, 0.1, 0.5], [0.2, 0.3, 0.4], [0.7, 0.7, 0.7]])
    assert ranks(cosines, np.array([2, 0, 1])).tolist() == [2, 3, 1]


def test_codes_are_summed_over_the_tokens_of_an_image():
    codes = sparse.csr_array(np.array([[1.0, 0], [2, 0], [0, 3], [0, 0]]))
    assert summed(codes, 2).tolist() == [[3, 0], [0, 3]]


def test_a_readout_finds_the_channel_that_says_the_label():
    rng = np.random.default_rng(0)
    means = rng.normal(size=(80, 3))
    present = np.stack([means[:, 1] > 0, means[:, 2] > 0], axis=1)
    tokens = LabelTokens(np.arange(80), present, {"a": means}, {}, {})
    weights = tokens.readout("a").weights
    assert np.abs(weights).argmax(axis=0).tolist() == [1, 2]
    exact = replace(tokens, present=means @ np.array([[0.0], [2.0], [0.5]]))
    np.testing.assert_allclose(exact.readout("a").weights, [[0], [2], [0.5]], atol=1e-5)


def rows_and_labels(folder):
    """40 images of two tokens; three labels, of which the last is on nine images only."""
    tokens = np.random.default_rng(0).random((40, 2, 2))
    present = np.arange(40)[:, None] < np.array([20, 10, 9])
    labelled = {split: LabelledImages(np.arange(40), present) for split in ("train", "val")}
    return tokens, replace(material_of(folder, {"a": tokens}), labelled=labelled)


def test_labels_are_those_with_enough_images(tmp_path):
    tokens, material = rows_and_labels(tmp_path)
    train, held_out = label_tokens(material)
    assert train.present.sum(axis=0).tolist() == held_out.present.sum(axis=0).tolist() == [20, 10]
    np.testing.assert_allclose(train.means["a"], tokens.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(train.codes["a"].sum(axis=1), tokens.max(axis=2).sum(axis=1), rtol=1e-4)  # k = 1
    assert train.powers["a"] == pytest.approx(np.square(tokens).sum(axis=2).mean(), rel=1e-5)


def test_one_label_alone_has_no_others_to_be_compared_with(tmp_path):
    _, material = rows_and_labels(tmp_path)
    alone = {split: replace(each, present=each.present[:, 1:]) for split, each in material.labelled.items()}
    assert label_tokens(replace(material, labelled=alone)) is None
