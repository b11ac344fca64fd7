"""Which images are asked by label."""

import numpy as np
import pytest

from usae.images.pixels.index import Record, write_index
from usae.methods.comparison.labelled import labelled_images


@pytest.fixture
def found(tmp_path, make_store):
    """What is found where training images have some labels of some names; held-out ones are of cats and dogs."""
    store = make_store("store", np.zeros((4, 2, 3), np.float32))

    def labelled(train, names, held_out=(1, 1, 0, None)):
        for split, labels, own in (("train", train, names), ("val", held_out, ("cat", "dog"))):
            records = [Record(f"{split}/{number}", label=label) for number, label in enumerate(labels)]
            write_index(records, tmp_path / f"{split}.parquet", None, own)
        return labelled_images(tmp_path, (store, np.array([0, 1, 2])), store)

    return labelled


def test_images_without_a_label_and_those_that_are_not_asked_for_are_left_out(found):
    by_split = found((0, None, 1, 0), ("cat", "dog"))
    assert by_split["train"].images.tolist() == [0, 2]
    assert by_split["train"].present.tolist() == [[True, False], [False, True]]
    assert by_split["val"].images.tolist() == [0, 1, 2]
    assert by_split["val"].present[:, 1].tolist() == [True, True, False]


def test_training_images_count_where_their_labels_are_those_of_held_out_ones(found):
    assert set(found((0, 1, 1, 0), ("dog", "cat"))) == {"val"}
    assert found((None,) * 4, ("cat", "dog"), (None,) * 4) == {}
