"""Images some at a time: the one way in which extraction and the passes over stores divide them."""

from collections.abc import Iterable
from itertools import pairwise


def image_spans(images: range, size: int, ends: Iterable[int] = ()) -> list[range]:
    """Consecutive `images`, at most `size` at a time; a span also ends before each of `ends`, which lie within."""
    cuts = sorted({*images[::size], *ends, images.stop})
    return [range(start, stop) for start, stop in pairwise(cuts)]
