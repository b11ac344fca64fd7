"""The best single concept of a label, chosen and judged on different images."""

import numpy as np
import pytest

from usae.common.numerics.ranking import roc_auc
from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.labels.single import ImageScores, LabelledImages, label_auc, roc_aucs


def test_all_areas_at_once_are_those_one_by_one():
    rng = np.random.default_rng(0)
    scores, present = rng.integers(0, 5, (40, 3)).astype(float), rng.random((40, 4)) < 0.4
    expected = [[roc_auc(scores[:, c], present[:, label]) for label in range(4)] for c in range(3)]
    np.testing.assert_allclose(roc_aucs(scores, present), expected)


def test_a_concept_that_is_the_label_has_1_and_chance_has_a_half():
    rng = np.random.default_rng(0)
    present = rng.random((400, 1)) < 0.5
    noise = rng.random((1, 400, 2))
    known = np.concatenate([noise, present[None].astype(float)], axis=2)
    assert label_auc(known, present) == 1
    assert label_auc(noise, present) == pytest.approx(0.5, abs=0.1)


def test_the_images_that_choose_do_not_judge():
    """The first concept tells the label on even images, the second on odd ones."""
    present = np.tile([True, True, False, False], 30)[:, None]
    even = np.arange(120) % 2 == 0
    scores = np.stack([present[:, 0] & even, present[:, 0] & ~even], axis=1)[None].astype(float)
    assert label_auc(scores, present) == 0.5


def test_rare_and_universal_labels_are_not_asked():
    present = np.zeros((100, 2), bool)
    present[:12, 0] = present[:, 1] = True  # six in each half; every image
    assert np.isnan(label_auc(np.ones((1, 100, 3)), present))


def test_scores_are_sums_over_tokens_of_the_images_asked_for():
    chunk = CodeChunk(
        np.array([4, 6, 7]),
        np.array([[[0, 1], [1, 2]], [[0, 0], [0, 0]], [[2, 0], [2, 1]]]),
        np.array([[[1, 2], [3, 4]], [[9, 9], [9, 9]], [[5, 6], [7, 8]]], np.float32),
    )
    scores = ImageScores(2, np.array([4, 7, 9]), 3)
    scores.update((chunk, chunk))
    assert scores.scores.tolist() == [[[1, 5, 4], [6, 8, 12], [0, 0, 0]]] * 2


def test_some_images_are_evenly_over_all(monkeypatch):
    monkeypatch.setattr("usae.evidence.metrics.labels.single.MOST_IMAGES", 3)
    some = LabelledImages.some(np.arange(10, 20), np.eye(10, dtype=bool))
    assert some.images.tolist() == [10, 14, 19]
    assert some.present.shape == (3, 10)
