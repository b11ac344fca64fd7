from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from usae.activations.extraction.pixels import Decoder
from usae.common.errors import UserError
from usae.common.params import ImagesParams
from usae.images.pixels.geometry import fit_image
from usae.images.pixels.index import load_splits
from usae.images.sources.writing import write_images


@pytest.fixture
def index(image_folder, tmp_path):
    images = ImagesParams(source="folder", path=str(image_folder), train=None, val=None, val_share=0.3)
    write_images(tmp_path / "images", images, seed=0, workers=1)
    return load_splits(tmp_path / "images", str(image_folder))["train"]


@pytest.mark.parametrize("ahead", [0, 1, 2, 9])
def test_batches_hold_their_images_in_order(index, ahead):
    decoder = Decoder(index, 16, "squash", "bicubic")
    with ThreadPoolExecutor(3) as pool:
        batches = list(decoder.batches([range(3), range(3, 4), range(5, 8)], pool, ahead))
    assert [len(batch) for batch in batches] == [3, 1, 3]
    for image, row in zip([0, 1, 2, 3, 5, 6, 7], np.concatenate(batches), strict=True):
        np.testing.assert_array_equal(row, fit_image(index.open(image), 16, "squash", "bicubic"))


def test_no_more_is_decoded_than_asked_for(index):
    taken = []
    spans = (taken.append(image) or range(image, image + 1) for image in range(8))
    with ThreadPoolExecutor(2) as pool:
        batches = Decoder(index, 8, "squash", "bicubic").batches(spans, pool, ahead=2)
        next(batches)
        assert taken == [0, 1, 2]
        next(batches)
        assert taken == [0, 1, 2, 3]


def test_an_image_that_is_gone_is_named(index, image_folder):
    (image_folder / index.frame["key"][2]).unlink()
    with ThreadPoolExecutor(2) as pool, pytest.raises(UserError, match=r"Image 2 \('class"):
        list(Decoder(index, 8, "squash", "bicubic").batches([range(8)], pool, ahead=1))
