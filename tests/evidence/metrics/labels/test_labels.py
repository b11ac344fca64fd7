import numpy as np
import pandas as pd
import pytest

from usae.common.errors import UserError
from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.labels.concepts import LabelFires
from usae.evidence.metrics.labels.labels import (
    ImageLabels,
    Profile,
    TokenLabels,
    absent_labels,
    best_labels,
    top_labels,
)


def one_hot(values):
    """Codes of one model, k = 1: `values` (images, tokens) is the concept that fires, -1 for none."""
    concepts = np.array(values)[..., None]
    return CodeChunk(
        np.arange(len(concepts)), np.maximum(concepts, 0).astype(np.uint16), (concepts >= 0).astype(np.float32)
    )


def counted(labels, *parts, concepts=3):
    counts = LabelFires(labels, len(parts[0]), concepts, 0.1)
    for part in parts:
        counts.update(part)
    return counts


def top_labels_of(counts):
    """Chosen and judged on the same images."""
    return top_labels(best_labels(counts.labels.names, counts.profile, counts.profile), counts.concepts)


def test_token_labels_count_over_the_union_of_models():
    coverage = np.zeros((2, 2, 2, 2), dtype=np.uint8)
    coverage[0, 0, 0, 0] = 255  # image 0, token 0: circle
    coverage[1, 1, 1, 0] = 128  # image 1, token 3: circle, just more than half
    coverage[1, 0, 0, 1] = 127  # image 1, token 0: red, just not
    coverage[0, 0, 1, 1] = 200  # image 0, token 1: red
    labels = TokenLabels(("shape: circle", "colour: red"), coverage)
    first = one_hot([[0, 1, -1, -1], [-1, -1, -1, 0]])
    second = one_hot([[0, 1, 1, -1], [-1, -1, -1, -1]])
    counts = counted(labels, (first, second))
    assert counts.tokens == 8
    assert counts.present.tolist() == [2, 1]
    assert counts.fires.sum(axis=0).tolist() == [3, 3, 0]
    assert counts.joint.sum(axis=0).tolist() == [[3, 0], [0, 2], [0, 0]]
    frame = top_labels_of(counts)
    assert frame["top_label"].tolist()[:2] == ["shape: circle", "colour: red"]
    assert pd.isna(frame["top_label"][2])
    np.testing.assert_allclose(frame["top_label_share"], [1, 2 / 3, np.nan])
    np.testing.assert_allclose(frame["top_label_base"], [2 / 8, 1 / 8, np.nan])


def test_the_top_label_is_more_frequent_on_the_fires_than_elsewhere():
    coverage = np.zeros((1, 2, 2, 2), dtype=np.uint8)
    coverage[0, ..., 0] = 255  # on every token: share 1, base 1
    coverage[0, 0, 0, 1] = 255  # on one token of four: share 1/2, base 1/4
    counts = counted(TokenLabels(("everywhere", "corner"), coverage), (one_hot([[0, 0, -1, -1]]),))
    assert top_labels_of(counts)["top_label"][0] == "corner"


def test_labels_are_ranked_by_overlap_not_by_share_alone():
    """Of a concept on green squares, green is found whole; solid is as frequent on its fires, but everywhere."""
    profile = Profile(
        np.array([[8, 8, 6, 1]]), np.array([8]), np.array([0.1, 0.4, 0.2, 0.5]), np.array([10, 40, 20, 50])
    )
    best = best_labels(("green", "solid", "square", "plain"), profile, profile)
    assert best["label"].tolist() == ["green", "square", "solid"]
    np.testing.assert_allclose(best["precision"], [1, 6 / 8, 1])
    np.testing.assert_allclose(best["recall"], [8 / 10, 6 / 20, 8 / 40])
    np.testing.assert_allclose(best["iou"], [8 / 10, 6 / 22, 8 / 40])


def test_the_top_label_is_chosen_in_one_half_and_its_share_is_that_of_the_other():
    """Concept 0 prefers label x in the half that chooses, y in the other; 1 and 2 fire in one half only."""
    reach = np.array([20, 20])
    choosing = Profile(np.array([[8, 1], [4, 0], [0, 0]]), np.array([10, 4, 0]), np.array([0.5, 0.25]), reach)
    judging = Profile(np.array([[2, 9], [0, 0], [3, 0]]), np.array([10, 0, 3]), np.array([0.4, 0.3]), reach)
    frame = top_labels(best_labels(("x", "y"), choosing, judging), 3)
    assert frame["top_label"][0] == "x"
    assert frame["top_label"].isna().tolist() == [False, True, True]
    np.testing.assert_allclose(frame["top_label_share"], [0.2, np.nan, np.nan])
    np.testing.assert_allclose(frame["top_label_base"], [0.4, np.nan, np.nan])


def test_image_labels_lie_on_all_tokens_and_leave_unlabelled_images_out():
    labels = ImageLabels(("cat", "dog"), np.array([1, -1, 0]))
    counts = counted(labels, (one_hot([[0, 0], [0, 0], [0, 1]]),))
    assert counts.tokens == 4
    assert counts.present.tolist() == [2, 2]
    assert counts.fires.sum(axis=0).tolist() == [3, 1, 0]
    assert counts.joint.sum(axis=0).tolist() == [[1, 2], [1, 0], [0, 0]]
    assert top_labels_of(counts)["top_label"].tolist()[:2] == ["dog", "cat"]
    assert pd.isna(top_labels_of(counts)["top_label"][2])


def test_merge_equals_one_pass(chunks):
    labels = ImageLabels(("a", "b", "c"), np.random.default_rng(0).integers(-1, 3, 11))
    parts = chunks(2)
    whole = counted(labels, *parts, concepts=12)
    left, right = counted(labels, *parts[:2], concepts=12), counted(labels, *parts[2:], concepts=12)
    left.merge(right)
    pd.testing.assert_frame_equal(top_labels_of(left), top_labels_of(whole))


def test_counts_equal_a_dense_computation(chunks, dense):
    rng = np.random.default_rng(3)
    coverage = rng.integers(0, 256, (11, 3, 3, 4), dtype=np.uint8)
    parts = chunks(3)
    fired = (dense(parts) > np.float32(0.1)).sum(axis=0)  # (images, tokens, concepts)
    carried = coverage.reshape(11, 9, 4) > 127
    counts = counted(TokenLabels(tuple("abcd"), coverage), *parts, concepts=12)
    np.testing.assert_array_equal(counts.joint.sum(axis=0), np.einsum("itc,ita->ca", fired, carried))


def test_truth_on_a_finer_grid_is_averaged_over_each_token():
    coverage = np.zeros((1, 4, 4, 1), dtype=np.uint8)
    coverage[0, :2, :2, 0] = 255  # the first of four tokens, whole
    coverage[0, 0, 2:, 0] = 255  # half of the second: an average of 127.5
    coverage[0, 2, 0, 0] = 255  # a quarter of the third
    rows, labels = TokenLabels(("shape: ring",), coverage).matrix(np.array([0]), 4)
    assert rows.tolist() == [0, 1, 2, 3]
    assert labels.toarray()[:, 0].tolist() == [1, 1, 0, 0]


def test_truth_on_the_same_grid_is_taken_as_it_is():
    coverage = np.random.default_rng(0).integers(0, 256, (2, 7, 7, 3), dtype=np.uint8)
    _, labels = TokenLabels(("a", "b", "c"), coverage).matrix(np.array([1, 0]), 49)
    np.testing.assert_array_equal(labels.toarray(), coverage[[1, 0]].reshape(98, 3) > 127)


def test_absent_labels_are_null():
    frame = absent_labels(2)
    assert frame.isna().all().all()
    assert list(frame) == ["top_label", "top_label_share", "top_label_base"]


def test_damaged_truth_is_one_sentence(tmp_path):
    file = tmp_path / "val_truth.npz"
    coverage = np.arange(128, dtype=np.uint8).reshape(4, 4, 4, 2)
    np.savez_compressed(file, names=np.array(["a", "b"]), coverage=coverage)
    whole = file.read_bytes()
    assert TokenLabels.load(file).names == ("a", "b")
    for damage in (b"", b"text", whole[:80], whole[:120] + bytes([whole[120] ^ 4]) + whole[121:]):
        file.write_bytes(damage)
        with pytest.raises(UserError, match=r"val_truth.npz is damaged \(.*\); run `dvc repro -f -s images`"):
            TokenLabels.load(file)
