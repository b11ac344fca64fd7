"""The nulls: exact where combinatorics gives the answer, uniform where nothing is shared, and fooled only by what
they keep."""

import numpy as np
import pytest
from scipy import stats

from usae.common.numerics.significance import significance
from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.firing import packed
from usae.evidence.metrics.firing.counts import FiringCounts, firing_entropy
from usae.evidence.metrics.firing.nulls import (
    CLASS,
    IMAGES,
    JOINT,
    TOKENS,
    CofireNulls,
    cofires,
    groups,
    moves,
    permuted,
    rest,
)
from usae.evidence.metrics.firing.packed import joined, pack, together

THRESHOLD = 0.1


def chunk_of(fires, first=0):
    """Codes that fire where (images, tokens, concepts) says; every concept has a slot of its own."""
    indices = np.broadcast_to(np.arange(fires.shape[-1], dtype=np.uint16), fires.shape)
    return CodeChunk(np.arange(first, first + len(fires)), indices, fires.astype(np.float32))


def nulls_of(fires, permutations=200, classes=None, size=None, **options):
    """Nulls of dense fires (models, images, tokens, concepts), in chunks of `size` images."""
    models, images, _, concepts = fires.shape
    counts = CofireNulls(models, concepts, THRESHOLD, permutations, 0, images, classes, **options)
    for start in range(0, images, size or images):
        counts.update([chunk_of(model[start : start + (size or images)], start) for model in fires])
    counts.finish()
    return counts


def clustered(rng, models, images, tokens, concepts, rate=0.1):
    """Independent streams with dependent tokens: a concept is in an image or not, and then on some tokens."""
    present = rng.random((models, images, 1, concepts)) < rate
    return present & (rng.random((models, images, tokens, concepts)) < rng.uniform(0.1, 0.6, (1, 1, 1, concepts)))


def judged(fires, counts, null, group=None):
    group = group or tuple(range(len(fires)))
    members = fires[list(group)]
    observed = members.all(axis=0).sum(axis=(0, 1))
    return significance(observed, counts.counts[null, group], members.any(axis=(1, 2)).all(axis=0))


def test_groups_are_pairs_leave_one_out_and_all():
    assert groups(1) == ()
    assert groups(2) == ((0, 1),)
    assert groups(3) == ((0, 1), (0, 2), (1, 2), (0, 1, 2))
    assert len(groups(4)) == 6 + 4 + 1
    assert len(groups(5)) == 10 + 5 + 1


@pytest.mark.parametrize("tokens", [9, 64, 70, 196])
def test_packed_counts_equal_dense_ones_under_any_order(tokens):
    rng = np.random.default_rng(0)
    fires = rng.random((3, 7, tokens, 5)) < 0.3
    fires[:, :, :, 4] = False
    packed = [joined([pack(chunk_of(part), 5, THRESHOLD) for part in (model[:4], model[4:])]) for model in fires]
    orders = [rng.permutation(7) for _ in range(3)]
    for group in groups(3):
        expected = np.logical_and.reduce([fires[m][orders[m]] for m in group]).sum(axis=(0, 1))
        found = cofires([(packed[m], orders[m]) for m in group])
        np.testing.assert_array_equal(found, expected)
        both, dense = together([packed[m] for m in group]), fires[list(group)].all(axis=0)
        np.testing.assert_array_equal(both.sizes, dense.sum(axis=1)[dense.any(axis=1)])
        np.testing.assert_array_equal(both.slot >= 0, dense.any(axis=1))
        np.testing.assert_array_equal(both.bits, joined([pack(chunk_of(dense), 5, THRESHOLD)]).bits)
    np.testing.assert_array_equal(packed[0].sizes, fires[0].sum(axis=1)[fires[0].any(axis=1)])


def test_permutations_keep_classes():
    classes = np.array([2, 0, 2, 1, 0, 2, -1])
    orders = {tuple(permuted(classes, np.random.default_rng(seed))) for seed in range(300)}
    assert len(orders) == 2 * 6
    assert all((classes[list(order)] == classes).all() for order in orders)


def test_one_token_per_image_is_the_hypergeometric_law():
    rng = np.random.default_rng(1)
    fires = rng.random((2, 60, 1, 8)) < rng.uniform(0.2, 0.8, 8)
    for null in (IMAGES, TOKENS):
        (counts,) = nulls_of(fires, 4000).counts[null, (0, 1)]
        for concept in range(8):
            a, b = fires[:, :, 0, concept].sum(axis=1)
            law = stats.hypergeom(60, a, b)
            assert counts[:, concept].mean() == pytest.approx(law.mean(), abs=5 * law.std() / 4000**0.5)
            assert counts[:, concept].var() == pytest.approx(law.var(), rel=0.12)


def test_one_image_without_positions_is_the_hypergeometric_law_and_with_them_does_not_move():
    rng = np.random.default_rng(2)
    fires = rng.random((2, 1, 90, 6)) < rng.uniform(0.2, 0.8, 6)
    nulls = nulls_of(fires, 4000)
    observed = fires.all(axis=0).sum(axis=(0, 1))
    assert (nulls.counts[IMAGES, (0, 1)] == observed).all()
    for concept in range(6):
        a, b = fires[:, 0, :, concept].sum(axis=1)
        law, counts = stats.hypergeom(90, a, b), nulls.counts[TOKENS, (0, 1)][0, :, concept]
        assert counts.mean() == pytest.approx(law.mean(), abs=5 * law.std() / 4000**0.5)
        assert counts.var() == pytest.approx(law.var(), rel=0.12)


def test_mean_and_variance_of_permuted_images_are_those_of_combinatorics():
    """Of all re-pairings: E = sum of pair overlaps / n, Var = sum of doubly centred overlaps squared / (n - 1)."""
    rng = np.random.default_rng(3)
    fires = clustered(rng, 2, 40, 12, 6, rate=0.4)
    (counts,) = nulls_of(fires, 4000).counts[IMAGES, (0, 1)]
    overlap = np.einsum("atc,btc->cab", *fires.astype(float))
    centred = overlap - overlap.mean(axis=1, keepdims=True) - overlap.mean(axis=2, keepdims=True)
    centred += overlap.mean(axis=(1, 2), keepdims=True)
    sd = np.sqrt((centred**2).sum(axis=(1, 2)) / 39)
    assert (abs(counts.mean(axis=0) - overlap.sum(axis=(1, 2)) / 40) < 5 * sd / 4000**0.5).all()
    np.testing.assert_allclose(counts.std(axis=0), sd, rtol=0.07)


def test_expectation_of_three_models_keeps_positions_or_only_rates():
    """With one model moved the others' joint fires stay as they are, at their positions or in their number."""
    rng = np.random.default_rng(4)
    fires = rng.random((3, 50, 10, 4)) < rng.uniform(0.1, 0.9, (1, 1, 10, 4))
    nulls = nulls_of(fires, 2000)
    images, tokens = (nulls.counts[null, (0, 1, 2)].mean(axis=1) for null in (IMAGES, TOKENS))
    for moved in range(3):
        others = np.delete(fires, moved, axis=0).all(axis=0).sum(axis=0)  # (tokens, concepts)
        own = fires[moved].sum(axis=0) / 50
        np.testing.assert_allclose(images[moved], (others * own).sum(axis=0), rtol=0.01)
        np.testing.assert_allclose(tokens[moved], others.sum(axis=0) * own.mean(axis=0), rtol=0.01)
    per_position = fires.sum(axis=1) / 50  # (models, tokens, concepts)
    (joint,) = nulls.counts[JOINT, (0, 1, 2)].mean(axis=1)
    np.testing.assert_allclose(joint, 50 * per_position.prod(axis=0).sum(axis=0), rtol=0.01)


def test_every_member_moves_alone_and_the_joint_null_moves_all_but_one():
    assert moves(IMAGES, (0, 1, 2)) == ((0,), (1,), (2,))
    assert moves(TOKENS, (1, 3)) == ((3,),)
    assert moves(JOINT, (0, 2, 3)) == ((2, 3),)
    assert moves(JOINT, (0, 1)) == ()
    assert rest((0, 1, 2), (1,)) == (0, 2)
    counts = nulls_of(np.zeros((3, 4, 5, 6), bool), 7).counts
    assert {key: values.shape for key, values in counts.items() if len(key[1]) == 3} == {
        (null, (0, 1, 2)): (1 if null == JOINT else 3, 7, 6) for null in (IMAGES, TOKENS, JOINT)
    }


@pytest.mark.parametrize("stranger", [0, 1, 2])
def test_what_two_of_three_share_beats_the_joint_null_and_not_the_one_for_all(stranger):
    """The hole that one re-pairing of all models leaves: two that agree are enough."""
    rng = np.random.default_rng(stranger)
    cause = clustered(rng, 1, 150, 12, 60, rate=0.4)
    fires = np.repeat(cause, 3, axis=0) & (rng.random((3, 150, 12, 60)) < 0.9)
    fires[stranger] = clustered(rng, 1, 150, 12, 60, rate=0.5)[0]
    nulls = nulls_of(fires)
    found = judged(fires, nulls, IMAGES)
    assert judged(fires, nulls, JOINT).significant.mean() > 0.8
    assert found.significant.mean() <= 0.05
    assert (found.hardest == stranger).mean() > 0.95
    assert (found.p <= 0.05).mean() <= 0.15  # of 60


@pytest.fixture(scope="module", params=[2, 3])
def independent(request):
    """Fires of so many models that share nothing, and their nulls."""
    rng = np.random.default_rng([5, request.param])
    present = rng.random((request.param, 100, 1, 300)) < 0.6
    fires = present & (rng.random((request.param, 100, 24, 300)) < 0.5)  # counts almost continuous, so large
    return fires, nulls_of(fires, 199, np.arange(100) % 4)


@pytest.mark.parametrize("null", [IMAGES, CLASS, TOKENS])
def test_independent_streams_give_uniform_p_and_hardly_any_discovery(null, independent):
    fires, nulls = independent
    found = judged(fires, nulls, null)
    if len(fires) == 2:
        assert stats.kstest(found.p, "uniform").pvalue > 0.01
    assert (found.p <= 0.05).mean() < 0.08  # the largest of three is careful
    assert found.significant.mean() < 0.05


def test_rare_clumped_concepts_are_no_discoveries():
    """A single overlap of two images in which a concept fires ten times is many standard deviations."""
    rng = np.random.default_rng(6)
    fires = clustered(rng, 2, 300, 16, 800, rate=0.01)
    found = judged(fires, nulls_of(fires, 199), IMAGES)
    assert np.nanmax(found.z) > 8
    assert found.significant.mean() < 0.01
    assert (np.nan_to_num(found.p, nan=1.0) <= 0.05).mean() < 0.06


def test_planted_concepts_are_found_and_only_they():
    rng = np.random.default_rng(7)
    fires = clustered(rng, 3, 120, 12, 60, rate=0.2)
    cause = clustered(rng, 1, 120, 12, 10, rate=0.2)[0]
    fires[:, :, :, :10] = cause & (rng.random((3, 120, 12, 10)) < 0.8)
    found = judged(fires, nulls_of(fires), IMAGES)
    assert found.significant[:10].all()
    assert found.significant[10:].mean() < 0.05
    assert (found.tail[:10] < 1 / 201).all()
    assert np.median(found.lift[:10]) > 5
    observed = fires.all(axis=0).sum(axis=(0, 1))[10:]
    joint = nulls_of(fires).counts[JOINT, (0, 1, 2)].mean(axis=1)[0]
    assert observed.sum() == pytest.approx(joint[10:].sum(), rel=0.4)


def test_position_alone_fools_the_null_without_positions_only():
    rng = np.random.default_rng(8)
    corner = np.exp(-np.arange(16) / 4)[None, None, :, None]
    fires = rng.random((2, 150, 16, 40)) < 0.5 * corner
    nulls = nulls_of(fires)
    assert judged(fires, nulls, TOKENS).significant.mean() > 0.95
    assert judged(fires, nulls, IMAGES).significant.mean() < 0.05


def test_class_alone_fools_the_nulls_that_ignore_it():
    rng = np.random.default_rng(9)
    classes = np.arange(160) % 5
    home = classes[None, :, None, None] == (np.arange(40) % 5)
    fires = rng.random((2, 160, 9, 40)) < np.where(home, 0.4, 0.02)
    nulls = nulls_of(fires, classes=classes)
    assert judged(fires, nulls, IMAGES).significant.mean() > 0.95
    assert judged(fires, nulls, CLASS).significant.mean() < 0.05


def test_firing_entropy_does_not_notice_re_paired_images():
    """Why it has no null: it is the same number for shared concepts and for accidents."""
    rng = np.random.default_rng(10)
    cause = clustered(rng, 1, 50, 9, 12)[0]
    fires = np.stack([cause, cause, cause])
    moved = np.stack([fires[0], *(fires[model][rng.permutation(50)] for model in (1, 2))])
    counts = [FiringCounts(3, 12, THRESHOLD), FiringCounts(3, 12, THRESHOLD)]
    for firing, streams in zip(counts, (fires, moved), strict=True):
        firing.update([chunk_of(model) for model in streams])
    np.testing.assert_array_equal(firing_entropy(counts[0].fires), firing_entropy(counts[1].fires))
    assert counts[1].cofires.sum() < 0.2 * counts[0].cofires.sum()


def test_chunks_and_blocks_and_repeats():
    fires = clustered(np.random.default_rng(11), 3, 40, 9, 10, rate=0.5)
    whole, parts = nulls_of(fires, 20), nulls_of(fires, 20, size=7)
    for key, counts in whole.counts.items():
        np.testing.assert_array_equal(parts.counts[key], counts)
    blocks = nulls_of(fires, 300, size=5, block_images=10)
    assert blocks._block(39) == 3
    expected = [np.einsum("atc,btc->c", *fires[:2, s : s + 10].astype(float)) / 10 for s in range(0, 40, 10)]
    (counts,) = blocks.counts[IMAGES, (0, 1)]
    assert (abs(counts.mean(axis=0) - sum(expected)) < 5 * counts.std(axis=0) / 300**0.5).all()


def test_blocks_of_different_processes_merge():
    fires = clustered(np.random.default_rng(12), 2, 20, 9, 10, rate=0.5)
    whole = nulls_of(fires, 30, size=10, block_images=10)
    halves = [CofireNulls(2, 10, THRESHOLD, 30, 0, 20, None, block_images=10) for _ in range(2)]
    for half, start in zip(halves, (0, 10), strict=True):
        half.update([chunk_of(model[start : start + 10], start) for model in fires])
        half.finish()
    halves[0].merge(halves[1])
    for key, counts in whole.counts.items():
        np.testing.assert_array_equal(halves[0].counts[key], counts)


def test_of_many_models_pairs_are_asked_under_one_null_and_no_set_leaves_one_out():
    assert len(groups(8)) == 28 + 8 + 1
    assert len(groups(16)) == 120 + 1
    assert groups(16, TOKENS) == (tuple(range(16)),)
    fires = clustered(np.random.default_rng(0), 9, 20, 4, 3, rate=0.5)
    counts = nulls_of(fires, 3, np.arange(20) % 2).counts
    assert {null: sum(name == null for name, _ in counts) for null, _ in counts} == {
        IMAGES: 37, CLASS: 1, TOKENS: 1, JOINT: 1,
    }  # fmt: skip
    assert all(len(counts[null, tuple(range(9))]) == 9 for null in (IMAGES, CLASS, TOKENS))


def test_pairs_are_looked_at_in_portions_to_the_same_counts(monkeypatch):
    fires = clustered(np.random.default_rng(3), 3, 40, 9, 10, rate=0.5)
    whole = nulls_of(fires, permutations=5)
    monkeypatch.setattr(packed, "PAIRS", 8)
    portions = nulls_of(fires, permutations=5)
    assert whole.counts.keys() == portions.counts.keys()
    for key, counts in whole.counts.items():
        np.testing.assert_array_equal(counts, portions.counts[key])
        assert counts.any()
