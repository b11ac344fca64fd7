"""The bootstrap over images: exact where every image counts once, and a function of the images alone."""

import numpy as np
import pytest

from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.contrast.resampling import Resampled, image_weights, interval
from usae.evidence.metrics.firing.counts import FiringCounts, cofire_proportion_min
from usae.evidence.metrics.firing.packed import pack
from usae.evidence.metrics.reconstruction.r2 import Reconstruction, r2

IMAGES, TOKENS, CONCEPTS = 20, 9, 6


@pytest.fixture
def fires():
    """Of two models, dense (models, images, tokens, concepts)."""
    return np.random.default_rng(0).random((2, IMAGES, TOKENS, CONCEPTS)) < 0.3


def chunk(fires, images):
    indices = np.broadcast_to(np.arange(CONCEPTS, dtype=np.uint16), (len(images), TOKENS, CONCEPTS))
    return CodeChunk(images, indices, fires[images].astype(np.float32))


def counted(fires, weights, spans):
    found = Resampled(("a", "b"), CONCEPTS, weights)
    for span in spans:
        found.count([pack(chunk(model, span), CONCEPTS, 0.1) for model in fires], span)
    return found


def test_an_image_that_counts_twice_is_there_twice(fires):
    weights = np.random.default_rng(1).integers(0, 3, (IMAGES, 4)).astype(float)
    found = counted(fires, weights, np.array_split(np.arange(IMAGES), 3)).draws()
    for draw, times in enumerate(weights.T.astype(int)):
        firing = FiringCounts(2, CONCEPTS, 0.1)
        firing.update([chunk(model, np.repeat(np.arange(IMAGES), times)) for model in fires])
        np.testing.assert_allclose(found.agreement[draw], cofire_proportion_min(firing.cofires, firing.fires))


def test_r2_of_a_resample_is_that_of_its_images():
    rng = np.random.default_rng(2)
    truth, guess = rng.normal(3, 1, (2, IMAGES, TOKENS, 5))
    guess = truth + 0.3 * guess
    weights = rng.integers(0, 3, (IMAGES, 4)).astype(float)
    found = Resampled(("a", "b"), CONCEPTS, weights)
    nothing = np.zeros((2, IMAGES, TOKENS, CONCEPTS), bool)
    images = np.arange(IMAGES)
    found.count([pack(chunk(model, images), CONCEPTS, 0.1) for model in nothing], images)
    for target in ("a", "b"):
        found.reconstruct(target, truth, [("a", guess), ("b", truth)], images)
    draws = found.draws()
    for draw, times in enumerate(weights.T.astype(int)):
        rows, table = np.repeat(images, times), Reconstruction("usae", "val")
        table.update("a", truth[rows], [("a", guess[rows])])
        expected = r2(table.residuals["a", "a"], table.moments["a"], "channel")
        assert draws.r2_self[draw] == pytest.approx((expected + 1) / 2)
        assert draws.r2_cross[draw] == pytest.approx((expected + 1) / 2)


def test_weights_are_a_function_of_the_seed_and_count_each_image_once_on_average():
    weights = image_weights(500, 3)
    np.testing.assert_array_equal(weights, image_weights(500, 3))
    assert not np.array_equal(weights, image_weights(500, 4))
    assert weights.nbytes == weights.size  # of every image as many bytes as resamples
    assert weights.mean() == pytest.approx(1, abs=0.02)
    assert weights.var() == pytest.approx(1, abs=0.05)


def test_the_interval_is_around_the_value_whatever_the_resamples_shift():
    resampled = np.append(np.random.default_rng(0).normal(40, 2, 20_000), np.nan)
    low, high = interval(50.0, resampled)
    assert (low, high) == pytest.approx((50 - 1.96 * 2, 50 + 1.96 * 2), rel=0.01)
