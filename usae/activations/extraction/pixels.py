"""Image files to batches of pixels, decoded in threads ahead of the network that reads them (stage `extract`)."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from usae.common.params import Fit
from usae.images.pixels.geometry import fit_image
from usae.images.pixels.index import ImageIndex


@dataclass(frozen=True)
class Decoder:
    """How the images of an index become the pixels of a network.

    pinned: into page-locked memory, from which a GPU copies without waiting.
    """

    index: ImageIndex
    size: int
    fit: Fit
    interpolation: str
    pinned: bool = False

    def batches(
        self, spans: Iterable[range], pool: ThreadPoolExecutor, ahead: int
    ) -> Iterator[UInt8[Tensor, "b 3 size size"]]:
        """Pixels of each span of images, while those of the next `ahead` spans are decoded.

        Raises:
            UserError: an image can no longer be read.
        """
        started: deque[tuple[Tensor, list[Future[None]]]] = deque()
        for span in spans:
            started.append(self._start(span, pool))
            if len(started) > ahead:
                yield _finished(*started.popleft())
        while started:
            yield _finished(*started.popleft())

    def _start(self, span: range, pool: ThreadPoolExecutor) -> tuple[Tensor, list[Future[None]]]:
        pixels = torch.empty((len(span), 3, self.size, self.size), dtype=torch.uint8, pin_memory=self.pinned)
        return pixels, [pool.submit(self._decode, image, pixels[row]) for row, image in enumerate(span)]

    def _decode(self, image: int, out: Tensor) -> None:
        out.numpy()[:] = fit_image(self.index.open(image), self.size, self.fit, self.interpolation)


def _finished(pixels: Tensor, rows: list[Future[None]]) -> Tensor:
    for row in rows:
        row.result()
    return pixels
