from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from usae.activations.extraction.pixels import Decoder
from usae.common.errors import UserError
from usae.common.params import ImagesParams
from usae.images.pixels.geometry import Square, fit_image
from usae.images.pixels.index import load_splits
from usae.images.sources.writing import write_images

SMALL, LARGE = Square(8, "squash", "bicubic"), Square(16, "center", "bilinear")


@pytest.fixture
def index(image_folder, tmp_path):
    images = ImagesParams(source="folder", path=str(image_folder), train=None, val=None, val_share=0.3)
    write_images(tmp_path / "images", images, seed=0, workers=1)
    return load_splits(tmp_path / "images", str(image_folder))["train"]


@pytest.mark.parametrize("ahead", [0, 1, 2, 9])
def test_batches_hold_their_images_in_order(index, ahead):
    wanted = [(range(3), {SMALL}), (range(3, 4), {LARGE}), (range(5, 8), {LARGE, SMALL})]
    with ThreadPoolExecutor(3) as pool:
        batches = list(Decoder(index).batches(wanted, pool, ahead))
    assert [{square: len(pixels) for square, pixels in batch.items()} for batch in batches] == [
        dict.fromkeys(squares, len(images)) for images, squares in wanted
    ]
    for batch, (images, _) in zip(batches, wanted, strict=True):
        for square, pixels in batch.items():
            for image, row in zip(images, pixels.numpy(), strict=True):
                expected = fit_image(index.open(image), square.size, square.fit, square.interpolation)
                np.testing.assert_array_equal(row, expected)


def test_no_more_is_decoded_than_asked_for(index):
    taken = []
    wanted = (taken.append(image) or (range(image, image + 1), {SMALL}) for image in range(8))
    with ThreadPoolExecutor(2) as pool:
        batches = Decoder(index).batches(wanted, pool, ahead=2)
        next(batches)
        assert taken == [0, 1, 2]
        next(batches)
        assert taken == [0, 1, 2, 3]


def test_an_image_that_is_gone_is_named(index, image_folder):
    (image_folder / index.frame["key"][2]).unlink()
    with ThreadPoolExecutor(2) as pool, pytest.raises(UserError, match=r"Image 2 \('class"):
        list(Decoder(index).batches([(range(8), {SMALL})], pool, ahead=1))
