"""The activation stores of several models, read side by side: any images, in any order, as they are stored.

Chunk files are opened, read at the image's place (docs/format.md: a file is the plain array) and closed again, by
a few threads. Nothing stays mapped or open: a set may have any number of files, and a disk that fails is an error
with a name. From the page cache this is about as fast as a memory map (benchmarks/README.md).
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from usae.activations.store import ActivationStore
from usae.activations.store.manifests import Manifest
from usae.common.errors import UserError

READERS = 4  # threads; a disk serves several requests at once
BLOCK_BYTES = 4 << 20  # of a file read from end to end


class PairedActivations:
    """The stores of several models: image i is the same image in all of them.

    images, tokens (an image), widths: the shapes. chunk_images: images of the largest chunk file of any store.
    """

    def __init__(self, stores: Sequence[ActivationStore]) -> None:
        self.stores = list(stores)
        self.images, self.tokens = stores[0].images, stores[0].tokens
        self.widths = tuple(store.width for store in stores)
        self.chunk_images = max(store.chunk_images for store in stores)
        self._files = [[str(store.chunk_path(j)) for j in range(store.chunks)] for store in stores]
        self._readers = ThreadPoolExecutor(READERS)

    @property
    def bytes(self) -> int:
        """Size of all activations as stored."""
        return sum(self.images * self.tokens * store.width * store.dtype.itemsize for store in self.stores)

    def select(self, models: Sequence[int]) -> "PairedActivations":
        """Only the models of those numbers, in that order."""
        return PairedActivations([self.stores[model] for model in models])

    def rows(self, images: np.ndarray) -> list[Float[Tensor, "n _"]]:
        """Activations of `images` for every model, all tokens of each image, float32 [images * tokens, d]."""
        return [stored.flatten(0, 1).float() for stored in self.gather(images)]

    def tokens_at(self, model: int, images: np.ndarray, positions: np.ndarray) -> Float[Tensor, "n d"]:
        """One token each: `positions` of `images` for the model of that number, float32."""
        out = np.empty((len(images), self.widths[model]), self.stores[model].dtype)
        for row, image, position in zip(out, images.tolist(), positions.tolist(), strict=True):
            self._read(model, image, row, position)
        return torch.from_numpy(out).float()  # (tokens, width)

    def gather(self, images: np.ndarray, *, pinned: bool = False) -> list[Float[Tensor, "i t _"]]:
        """All tokens of `images` for every model as they are stored; `pinned`: in memory a GPU copies from.

        Raises:
            UserError: a file cannot be read or is cut short.
        """
        shape = (len(images), self.tokens)
        types = [torch.from_numpy(np.empty(0, store.dtype)).dtype for store in self.stores]
        out = [
            torch.empty((*shape, width), dtype=dtype, pin_memory=pinned)
            for width, dtype in zip(self.widths, types, strict=True)
        ]
        arrays = [tensor.numpy() for tensor in out]

        def read(rows: np.ndarray) -> None:
            for model, array in enumerate(arrays):
                for row in rows.tolist():
                    self._read(model, int(images[row]), array[row])

        list(self._readers.map(read, np.array_split(np.arange(len(images)), READERS)))
        return out

    def read_through(self, chunk: int) -> None:
        """Read the images of the `chunk`-th `chunk_images` from end to end, into the page cache and no further."""
        scratch = bytearray(BLOCK_BYTES)
        first, last = chunk * self.chunk_images, min((chunk + 1) * self.chunk_images, self.images)
        for model, store in enumerate(self.stores):
            for number in range(first // store.chunk_images, -(-last // store.chunk_images)):
                try:
                    with open(self._files[model][number], "rb", buffering=0) as file:
                        while file.readinto(scratch):
                            pass
                except OSError as error:
                    raise self._unreadable(model, number, str(error)) from error

    def _read(self, model: int, image: int, out: np.ndarray, position: int = 0) -> None:
        """Fill `out` with what the file holds from that image and token on."""
        store = self.stores[model]
        chunk, offset = divmod(image, store.chunk_images)
        start = (offset * self.tokens + position) * store.width * store.dtype.itemsize
        try:
            file = os.open(self._files[model][chunk], os.O_RDONLY)
            try:
                found = os.preadv(file, [out.data], start)
            finally:
                os.close(file)
        except OSError as error:
            raise self._unreadable(model, chunk, str(error)) from error
        if found != out.nbytes:
            raise self._unreadable(model, chunk, f"{found} bytes instead of {out.nbytes} at {start}")

    def _unreadable(self, model: int, chunk: int, reason: str) -> UserError:
        store = self.stores[model]
        return UserError(
            f"Chunk {chunk} ({self._files[model][chunk]}) cannot be read: {reason}. Is its disk mounted and "
            f"sound? `usae store verify --repair {store.path}` lists all faults and mends them."
        )


def open_paired(manifests: Mapping[str, Manifest], root: Path) -> PairedActivations:
    """The training stores that `manifests` name, each complete (see `Manifest.open`)."""
    return PairedActivations([manifest.open("train", root) for manifest in manifests.values()])
