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
    """The stores of several models, by slug: image i is the same image in all of them.

    images, tokens (an image): the shapes. chunk_images: images of the largest chunk file of any store.
    members (images,): increasing numbers of the images in the stores, where these are only some of them.
    """

    def __init__(self, stores: Mapping[str, ActivationStore], members: np.ndarray | None = None) -> None:
        self.stores = dict(stores)
        first = next(iter(self.stores.values()))
        self.members = np.arange(first.images) if members is None else members
        self.images, self.tokens = len(self.members), first.tokens
        self.chunk_images = max(store.chunk_images for store in self.stores.values())
        self._files = {
            model: [str(store.chunk_path(chunk)) for chunk in range(store.chunks)]
            for model, store in self.stores.items()
        }
        self._readers = ThreadPoolExecutor(READERS)

    @property
    def models(self) -> tuple[str, ...]:
        """Slugs, in order."""
        return tuple(self.stores)

    @property
    def width(self) -> int:
        """Of all models side by side."""
        return sum(store.width for store in self.stores.values())

    @property
    def bytes(self) -> int:
        """Size of all activations as stored."""
        return sum(
            self.images * self.tokens * store.width * store.dtype.itemsize for store in self.stores.values()
        )

    def select(self, models: Sequence[str]) -> "PairedActivations":
        """Only these models, in that order."""
        return PairedActivations({model: self.stores[model] for model in models}, self.members)

    def part(self, images: np.ndarray) -> "PairedActivations":
        """Only these images, increasing numbers of those that are here; they are numbered anew, from 0."""
        return PairedActivations(self.stores, self.members[images])

    def rows(self, images: np.ndarray) -> dict[str, Float[Tensor, "n _"]]:
        """Activations of `images` for every model, all tokens of each image, float32 [images * tokens, d]."""
        return {model: stored.flatten(0, 1).float() for model, stored in self.gather(images).items()}

    def tokens_at(self, model: str, images: np.ndarray, positions: np.ndarray) -> Float[Tensor, "n d"]:
        """One token each: `positions` of `images` for a model, float32.

        Those of one image that follow each other are read at once, with what lies between them.
        """
        store = self.stores[model]
        out = np.empty((len(images), store.width), store.dtype)
        edges = np.flatnonzero(np.diff(images, prepend=-1, append=-1))

        def read(runs: np.ndarray) -> None:
            for start, stop in runs.tolist():
                wanted = positions[start:stop]
                first = int(wanted.min())
                span = np.empty((int(wanted.max()) + 1 - first, store.width), store.dtype)
                self._read(model, int(self.members[images[start]]), span, first)
                out[start:stop] = span[wanted - first]

        runs = np.stack([edges[:-1], edges[1:]], axis=1)
        list(self._readers.map(read, np.array_split(runs, READERS)))
        return torch.from_numpy(out).float()  # (tokens, width)

    def gather(self, images: np.ndarray, *, pinned: bool = False) -> dict[str, Float[Tensor, "i t _"]]:
        """All tokens of `images` for every model as they are stored; `pinned`: in memory a GPU copies from.

        Raises:
            UserError: a file cannot be read or is cut short.
        """
        out = {model: self._empty(store, len(images), pinned) for model, store in self.stores.items()}
        arrays = {model: tensor.numpy() for model, tensor in out.items()}

        def read(rows: np.ndarray) -> None:
            for model, array in arrays.items():
                for row in rows.tolist():
                    self._read(model, int(self.members[images[row]]), array[row])

        list(self._readers.map(read, np.array_split(np.arange(len(images)), READERS)))
        return out

    def read_through(self, chunk: int) -> None:
        """Read the images of the `chunk`-th `chunk_images` from end to end, into the page cache and no further."""
        scratch = bytearray(BLOCK_BYTES)
        within = self.members[chunk * self.chunk_images : (chunk + 1) * self.chunk_images]
        first, last = int(within[0]), int(within[-1]) + 1
        for model, store in self.stores.items():
            for covered in range(first // store.chunk_images, -(-last // store.chunk_images)):
                try:
                    with open(self._files[model][covered], "rb", buffering=0) as file:
                        while file.readinto(scratch):
                            pass
                except OSError as error:
                    raise self._unreadable(model, covered, str(error)) from error

    def _empty(self, store: ActivationStore, images: int, pinned: bool) -> Float[Tensor, "i t _"]:
        """Room for activations as they are stored."""
        dtype = torch.from_numpy(np.empty(0, store.dtype)).dtype
        return torch.empty((images, self.tokens, store.width), dtype=dtype, pin_memory=pinned)

    def _read(self, model: str, image: int, out: np.ndarray, position: int = 0) -> None:
        """Fill `out` with what the file holds from that image and token on."""
        store = self.stores[model]
        chunk, offset = divmod(image, store.chunk_images)
        start = (offset * self.tokens + position) * store.width * store.dtype.itemsize
        try:
            file = os.open(self._files[model][chunk], os.O_RDONLY)
            try:
                read = os.preadv(file, [out.data], start)
            finally:
                os.close(file)
        except OSError as error:
            raise self._unreadable(model, chunk, str(error)) from error
        if read != out.nbytes:
            raise self._unreadable(model, chunk, f"{read} bytes instead of {out.nbytes} at {start}")

    def _unreadable(self, model: str, chunk: int, reason: str) -> UserError:
        store = self.stores[model]
        return UserError(
            f"Chunk {chunk} ({self._files[model][chunk]}) cannot be read: {reason}. Is its disk mounted and "
            f"sound? `usae store verify --repair {store.path}` lists all faults and mends them."
        )


def open_paired(manifests: Mapping[str, Manifest], root: Path, most: int | None = None) -> PairedActivations:
    """The training stores that `manifests` name, each complete (see `Manifest.open`).

    Of the first `most` images (None: all), as far as all stores have them.
    """
    stores = {model: manifest.open("train", root) for model, manifest in manifests.items()}
    images = min(store.images for store in stores.values())
    return PairedActivations(stores, np.arange(images if most is None else min(most, images)))
