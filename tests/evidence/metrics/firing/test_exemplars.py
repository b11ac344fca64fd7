import sys

import numpy as np
import pandas as pd
import pytest

from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.firing.exemplars import Exemplars

MODELS = ("supervised", "language")


def kept(parts, count=3, concepts=12, models=MODELS):
    exemplars = Exemplars(models, concepts, count)
    for part in parts:
        exemplars.update(part)
    return exemplars


def test_rankings_equal_a_full_sort(chunks, dense):
    parts = chunks(2, images=(5, 5, 4))
    peaks = dense(parts).max(axis=2)  # (models, images, concepts)
    rankings = {"mean": peaks.mean(axis=0), MODELS[0]: peaks[0], MODELS[1]: peaks[1]}
    frame = kept(parts).frame()
    for name, values in rankings.items():
        for concept in range(12):
            order = np.argsort(-values[:, concept], kind="stable")[:3]
            order = order[values[order, concept] > 0]
            rows = frame[(frame["ranking"] == name) & (frame["concept_id"] == concept)]
            assert rows["image"].tolist() == order.tolist()
            assert rows["code"].tolist() == values[order, concept].tolist()
            assert rows["rank"].tolist() == list(range(len(order)))


def test_equal_codes_keep_the_earlier_image():
    ones = np.ones((4, 1, 1), dtype=np.float32)
    chunk = CodeChunk(np.arange(4), np.zeros((4, 1, 1), dtype=np.uint16), ones)
    later = CodeChunk(np.arange(4, 8), chunk.indices, ones)
    for order in ([(chunk,), (later,)], [(later,), (chunk,)]):
        frame = kept(order, count=3, concepts=1, models=("only",)).frame()
        assert frame[frame["ranking"] == "only"]["image"].tolist() == [0, 1, 2]


def test_merge_equals_one_pass_in_any_order(chunks):
    parts = chunks(2)
    left, right = kept(parts[:1]), kept(parts[1:])
    right.merge(left)
    pd.testing.assert_frame_equal(right.frame(), kept(parts).frame())


def test_concepts_that_no_image_has_get_no_row(chunks):
    assert 11 not in set(kept(chunks(2)).frame()["concept_id"])


@pytest.mark.parametrize("count", [1, 100])
def test_fewer_or_more_places_than_images(chunks, count):
    frame = kept(chunks(2), count=count).frame()
    assert frame.groupby(["concept_id", "ranking"]).size().max() == min(count, 11)


@pytest.mark.parametrize("count", [1, 2, 9])
def test_the_first_of_many_are_those_that_fewer_would_keep(chunks, count):
    parts = chunks(2)
    pd.testing.assert_frame_equal(kept(parts, count=9).frame(count), kept(parts, count=count).frame())


def test_memory_does_not_grow_with_images(chunks):
    few, many = kept(chunks(2, images=(4,) * 5)), kept(chunks(2, images=(4,) * 10))
    assert sys.getsizeof(few.keys) == sys.getsizeof(many.keys)


def test_far_more_images_asked_for_than_there_are_cost_nothing(chunks):
    parts = chunks(2, images=(5, 5, 4))
    asked, enough = kept(parts, count=10**9), kept(parts, count=14)
    assert asked.keys.shape == (3, 12, 14)
    pd.testing.assert_frame_equal(asked.frame(), enough.frame())
    one, other = kept(parts[:1], count=10**9), kept(parts[1:], count=10**9)
    one.merge(other)
    pd.testing.assert_frame_equal(one.frame(), enough.frame())
