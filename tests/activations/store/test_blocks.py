"""Spans of images: all of them, once, in order."""

import pytest

from usae.activations.store import image_spans


@pytest.mark.parametrize("images", [range(0), range(1), range(7), range(12), range(5, 13)])
@pytest.mark.parametrize("size", [1, 4, 50])
def test_spans_divide_the_images(images, size):
    spans = image_spans(images, size)
    assert [image for span in spans for image in span] == list(images)
    assert all(len(span) == size for span in spans[:-1])
    assert all(0 < len(span) <= size for span in spans)


def test_spans_end_where_they_have_to():
    assert image_spans(range(120), 50, (30, 100, 120)) == [
        range(30),
        range(30, 50),
        range(50, 100),
        range(100, 120),
    ]
