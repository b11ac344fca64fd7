import numpy as np
import pytest
from scipy import sparse

from usae.common.numerics.ranking import roc_auc
from usae.common.tables import write_table
from usae.evidence.codes.store import CodeChunk, CodeStore, aligned_chunks
from usae.evidence.metrics.labels.concepts import (
    LabelConcepts,
    LabelFires,
    LabelHalves,
    LabelRanking,
    agreement,
    label_purity,
    weighted_jaccard,
)
from usae.evidence.metrics.labels.labels import ImageLabels, TokenLabels
from usae.evidence.metrics.labels.tables import LABEL_CONCEPTS


@pytest.fixture
def token_labels():
    coverage = np.random.default_rng(3).integers(0, 256, (11, 3, 3, 4), dtype=np.uint8)
    return TokenLabels(tuple("abcd"), coverage)


def counted(labels, parts, counts_of=LabelFires):
    counts = counts_of(labels, 2, 12, 0.1)
    for part in parts:
        counts.update(part)
    return counts


def test_counts_and_iou_equal_a_dense_computation(token_labels, chunks, dense):
    parts = chunks(2)
    fired = (dense(parts) > np.float32(0.1)).reshape(2, 99, 12)
    carried = token_labels.coverage.reshape(99, 4) > 127
    counts = counted(token_labels, parts)
    np.testing.assert_array_equal(counts.joint, np.einsum("mtc,ta->mca", fired, carried.astype(int)))
    np.testing.assert_array_equal(counts.fires, fired.sum(axis=1))
    np.testing.assert_array_equal(counts.present, carried.sum(axis=0))
    assert counts.tokens == 99
    both = fired[1][:, 5] & carried[:, 2]
    assert counts.iou(1)[5, 2] == both.sum() / (fired[1][:, 5] | carried[:, 2]).sum()
    assert counts.iou(0)[11, 0] == 0


def test_halves_are_the_images_with_even_and_with_odd_numbers(token_labels, chunks, dense):
    parts = chunks(2, images=(4, 4, 1, 2))  # a chunk of one image has no odd half
    halves = counted(token_labels, parts, LabelHalves.none)
    fired = dense(parts) > np.float32(0.1)  # (models, images, tokens, concepts)
    carried = (token_labels.coverage > 127).reshape(11, 9, 4).astype(int)
    for counts, first in ((halves.choosing, 0), (halves.judging, 1)):
        expected = np.einsum("mitc,ita->mca", fired[:, first::2], carried[first::2])
        np.testing.assert_array_equal(counts.joint, expected)
    whole = counted(token_labels, parts)
    np.testing.assert_array_equal(halves.whole.joint, whole.joint)
    assert halves.whole.tokens == whole.tokens == halves.choosing.tokens + halves.judging.tokens


def test_unlabelled_images_are_left_out(chunks):
    labels = ImageLabels(("x", "y"), np.array([0, -1, 1, -1, 0, 0, 1, -1, 1, 1, 0]))
    counts = counted(labels, chunks(2))
    assert counts.tokens == 72
    assert counts.present.tolist() == [36, 36]


def test_merging_equals_one_pass(token_labels, chunks):
    parts = chunks(2)
    whole, left, right = (counted(token_labels, some, LabelHalves.none) for some in (parts, parts[:1], parts[1:]))
    left.merge(right)
    for half, expected in ((left.choosing, whole.choosing), (left.judging, whole.judging)):
        np.testing.assert_array_equal(half.joint, expected.joint)
        np.testing.assert_array_equal(half.fires, expected.fires)
        assert half.tokens == expected.tokens


def test_weighted_jaccard_by_hand():
    joint = np.array([[[4, 0], [2, 2], [1, 0], [3, 1]], [[2, 2], [2, 2], [0, 0], [0, 0]]])
    fires = np.array([[4, 4, 1, 4], [4, 4, 0, 2]])
    values = weighted_jaccard(joint, fires)
    np.testing.assert_allclose(values, [2 / 6, 1, np.nan, 0])
    found = agreement(joint, fires)
    assert found.alive == pytest.approx((2 / 6 + 1 + 0) / 3)
    assert found.every == pytest.approx((2 / 6 + 1 + 0) / 4)
    assert found.concepts == 3


def test_three_models_average_over_the_pairs_that_fire():
    joint = np.array([[[2, 0]], [[1, 1]], [[0, 0]]])
    assert weighted_jaccard(joint, joint.sum(axis=2)).tolist() == [pytest.approx(1 / 3)]


def test_profiles_of_independent_codes_agree_where_labels_differ_in_frequency():
    """The floor that any alignment has to beat."""
    rng = np.random.default_rng(0)
    share = 0.5 / np.arange(1, 21)
    labels = rng.random((4000, 20)) < share
    joint = np.stack([(rng.random((4000, 50)) < 0.1).T.astype(int) @ labels for _ in range(2)])
    assert agreement(joint, joint.sum(axis=2)).alive > 0.7


def test_purity_is_the_share_of_the_most_common_label():
    carried = sparse.csr_array(np.array([[1, 0], [1, 1], [0, 1], [0, 0]]))
    images = np.array([[0, 1, 3, -1], [2, -1, -1, -1], [3, -1, -1, -1], [-1, -1, -1, -1]])
    np.testing.assert_allclose(label_purity(images, carried), [2 / 3, 1, 0, np.nan])


def test_ranking_is_the_auc_of_codes_up_to_their_last_bits(token_labels, chunks, dense):
    parts = chunks(2)
    pairs = np.array([0, 3, 3, 11]), np.array([1, 0, 2, 3])
    ranking, half = LabelRanking(token_labels, 12, *pairs), LabelRanking(token_labels, 12, *pairs)
    for number, part in enumerate(parts):
        (ranking if number else half).update(part[1])
    ranking.merge(half)
    values = dense(parts)[1].reshape(99, 12).astype(np.float16)
    coarse = values.view(np.uint16) >> 5
    carried = token_labels.coverage.reshape(99, 4) > 127
    expected = [roc_auc(coarse[:, c], carried[:, a]) for c, a in zip(*pairs, strict=True)]
    np.testing.assert_allclose(ranking.auroc, expected, atol=1e-12)
    fine = [roc_auc(values[:, c], carried[:, a]) for c, a in zip(*pairs, strict=True)]
    np.testing.assert_allclose(ranking.auroc, fine, atol=0.01)
    assert ranking.auroc[3] == 0.5


def test_the_table_names_each_labels_concept(tmp_path):
    rng = np.random.default_rng(0)
    coverage = (255 * (rng.random((20, 2, 2, 2)) < 0.4)).astype(np.uint8)
    labels = TokenLabels(("shape: ring", "colour: red"), coverage)
    values = np.zeros((20, 4, 3), dtype=np.float32)
    values[..., :2] = coverage.reshape(20, 4, 2)[..., ::-1] / 255 * (1 + rng.random((20, 4, 2)))
    values[..., 2] = rng.random((20, 4))
    codes = {}
    for number, model in enumerate(("a", "b")):
        store = CodeStore.create(
            tmp_path / model, model=model, sae="usae", images=20, grid=2, k=3, concepts=4, chunk_images=8
        )
        for chunk in range(store.chunks):
            part = values[8 * chunk : 8 * chunk + 8]
            store.write(chunk, np.broadcast_to(np.arange(3) + number, part.shape), part)
        codes[model] = store
    fires = LabelHalves.none(labels, 2, 4, 0.1)
    for chunks in aligned_chunks(codes):
        fires.update(chunks)
    first, others = LabelConcepts(fires), LabelConcepts(fires)
    for number, chunks in enumerate(aligned_chunks(codes)):
        (others if number else first).update(chunks)
    first.merge(others)
    frame = first.frame(tuple(codes))
    write_table(LABEL_CONCEPTS, frame, tmp_path / "table.parquet")
    assert frame["concept_id"].tolist() == [1, 0, 2, 1]
    assert frame["iou"].tolist() == [1, 1, 1, 1]
    assert frame["auroc"].tolist() == [1, 1, 1, 1]
    assert frame["present"].tolist() == [*(coverage[1::2] > 0).sum(axis=(0, 1, 2))] * 2
    assert set(frame["tokens"]) == {40}


def halves_of(values, labels):
    """Codes of one model, k = all concepts: the chunk and what is counted in it."""
    indices = np.broadcast_to(np.arange(values.shape[2], dtype=np.uint16), values.shape)
    chunk = CodeChunk(np.arange(len(values)), indices, values.astype(np.float32))
    halves = LabelHalves.none(labels, 1, values.shape[2], 0.1)
    halves.update([chunk])
    return chunk, halves


def test_a_labels_concept_is_chosen_on_one_half_and_judged_on_the_other():
    """Concept 0 follows the label on even images only, concept 1 on odd ones only."""
    coverage = np.full((8, 1, 1, 1), 255, dtype=np.uint8)
    coverage[[0, 1, 4, 5]] = 0
    labels = TokenLabels(("red",), coverage)
    carried = coverage[:, :, 0, 0] > 0
    odd = (np.arange(8) % 2 == 1)[:, None]
    values = np.stack([np.where(odd, ~carried, carried), np.where(odd, carried, ~carried)], axis=2)
    chunk, halves = halves_of(values, labels)
    concepts = LabelConcepts(halves)
    concepts.update([chunk])
    row = concepts.frame(("a",)).iloc[0]
    assert (row["concept_id"], row["iou"], row["auroc"], row["present"], row["tokens"]) == (0, 0, 0, 2, 4)


def test_labels_of_one_half_only_are_left_out():
    labels = ImageLabels(("even", "everywhere"), np.array([0, 1, 1, 1]))
    chunk, halves = halves_of(np.ones((4, 1, 1)), labels)
    concepts = LabelConcepts(halves)
    concepts.update([chunk])
    assert concepts.frame(("a",))["label"].tolist() == ["everywhere"]
