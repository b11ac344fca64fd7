"""Probes: exact AUCs, exact readouts, and a fair question per group."""

import numpy as np
import pytest
import torch

from usae.backbones.weights.probes import group_means, probe_report, probe_scenes, probe_tokens, ridge_scores
from usae.common.numerics.ranking import roc_auc
from usae.images.sources.shapes.scenes import ATTRIBUTES, GROUPS, scene


def coverage(count: int) -> np.ndarray:
    return np.stack([scene(3, number).coverage for number in range(count)])


def test_auc_of_a_hand_computed_example():
    scores = np.array([0.1, 0.4, 0.35, 0.8])
    labels = np.array([False, False, True, True])
    assert roc_auc(scores, labels) == 0.75


def test_auc_counts_ties_half_and_equals_the_pairwise_definition():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, 200).astype(float)
    labels = rng.random(200) < 0.3
    gaps = scores[labels][:, None] - scores[~labels][None]
    assert roc_auc(scores, labels) == pytest.approx((gaps > 0).mean() + 0.5 * (gaps == 0).mean(), abs=1e-12)


@pytest.mark.parametrize(("scores", "auc"), [([1, 2, 3, 4], 1.0), ([4, 3, 2, 1], 0.0), ([1, 1, 1, 1], 0.5)])
def test_auc_of_perfect_reversed_and_constant_scores(scores, auc):
    assert roc_auc(np.array(scores, dtype=float), np.array([False, False, True, True])) == auc


@pytest.mark.parametrize("label", [True, False])
def test_auc_is_undefined_with_one_kind_of_label(label):
    assert np.isnan(roc_auc(np.arange(3.0), np.full(3, label)))


def test_ridge_without_penalty_recovers_a_linear_target():
    rng = np.random.default_rng(1)
    features, held_out = rng.normal(size=(300, 5)), rng.normal(size=(40, 5))
    weights = rng.normal(size=(5, 2))
    scores = ridge_scores(features, features @ weights, held_out, ridge=0.0)
    expected = (held_out - features.mean(0)) @ weights
    np.testing.assert_allclose(scores, expected, atol=1e-9)


def test_tokens_that_are_the_coverage_are_read_perfectly():
    truth = coverage(120)
    tokens = (truth >= 128).reshape(120, 64, -1).astype(np.float32)
    result = probe_tokens(tokens, truth, 80)
    assert list(result["attribute"]) == list(ATTRIBUTES)
    assert (result["auc"] == 1.0).all()


def test_random_tokens_are_read_at_chance():
    truth = coverage(300)
    tokens = np.random.default_rng(2).normal(size=(300, 64, 8)).astype(np.float32)
    result = probe_tokens(tokens, truth, 200)
    assert result["auc"].between(0.4, 0.6).all()
    assert result["auc"].mean() == pytest.approx(0.5, abs=0.02)


def test_telling_objects_from_backgrounds_wins_no_probe():
    truth = coverage(120)
    on_object = (truth[..., : len(GROUPS["shape"])].sum(-1) >= 128).reshape(120, 64, 1).astype(np.float32)
    assert probe_tokens(on_object, truth, 80)["auc"].between(0.49, 0.51).all()


def test_counts_are_those_of_the_held_out_tokens():
    truth = coverage(60)
    labels = truth[40:].reshape(-1, len(ATTRIBUTES)) >= 128
    result = probe_tokens(np.zeros((60, 64, 3), dtype=np.float32), truth, 40).set_index("attribute")
    assert list(result["positives"]) == list(labels.sum(0))
    backgrounds = [ATTRIBUTES.index(f"background: {name}") for name in GROUPS["background"]]
    assert (result.loc[result["group"] == "background", "n"] == labels[:, backgrounds].any(1).sum()).all()


def test_scenes_reach_the_backbone_in_range_and_the_report_has_its_columns():
    seen = []

    def mean_colours(pixels: torch.Tensor) -> torch.Tensor:
        seen.append((tuple(pixels.shape[1:]), float(pixels.min()) >= 0.0, float(pixels.max()) <= 1.0))
        return torch.nn.functional.avg_pool2d(pixels, 8).flatten(2).transpose(1, 2)

    colours = probe_scenes(mean_colours, scenes=80)
    chance = probe_scenes(lambda pixels: torch.zeros(len(pixels), 64, 1), scenes=80)
    report = probe_report(colours, chance)
    assert set(seen) == {((3, 64, 64), True, True)}
    assert list(report) == ["group", "attribute", "auc_trained", "auc_untrained", "positives", "n"]
    means = group_means(report)
    assert list(means.index) == list(GROUPS)
    assert means.loc["colour", "auc_trained"] > 0.85
    assert (means["auc_untrained"] == 0.5).all()
