"""Image files to batches of pixels, decoded in threads ahead of the networks that read them (stage `extract`).

An image is decoded once for all networks of a batch, and resized once for all that want the same pixels of it.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from usae.images.pixels.geometry import Square
from usae.images.pixels.index import ImageIndex

Pixels = dict[Square, UInt8[Tensor, "b 3 size size"]]


@dataclass(frozen=True)
class Decoder:
    """The images of an index, as pixels.

    pinned: into page-locked memory, from which a GPU copies without waiting.
    """

    index: ImageIndex
    pinned: bool = False

    def batches(
        self, wanted: Iterable[tuple[range, set[Square]]], pool: ThreadPoolExecutor, ahead: int
    ) -> Iterator[Pixels]:
        """Pixels of each span of images, in every square that is wanted of it, while those of the next `ahead`
        spans are decoded.

        Raises:
            UserError: an image can no longer be read.
        """
        started: deque[tuple[Pixels, list[Future[None]]]] = deque()
        for images, squares in wanted:
            started.append(self._start(images, squares, pool))
            if len(started) > ahead:
                yield _finished(*started.popleft())
        while started:
            yield _finished(*started.popleft())

    def _start(
        self, images: range, squares: set[Square], pool: ThreadPoolExecutor
    ) -> tuple[Pixels, list[Future[None]]]:
        pixels = {square: self._empty(len(images), square.size) for square in squares}
        return pixels, [pool.submit(self._decode, image, row, pixels) for row, image in enumerate(images)]

    def _empty(self, images: int, size: int) -> Tensor:
        return torch.empty((images, 3, size, size), dtype=torch.uint8, pin_memory=self.pinned)

    def _decode(self, image: int, row: int, out: Pixels) -> None:
        opened = self.index.open(image)
        for square, pixels in out.items():
            pixels[row].numpy()[:] = square.of(opened)


def _finished(pixels: Pixels, rows: list[Future[None]]) -> Pixels:
    for row in rows:
        row.result()
    return pixels
