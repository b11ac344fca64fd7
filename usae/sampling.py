"""Batches of paired activations for stage `train`: whole images, drawn from memory-mapped chunks.

The order is a pure function of (seed, epoch). Row r of every model's batch is the same patch of the same image,
unless the pairs are shuffled on purpose: a control, in which nothing can be shared but by chance.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from usae.errors import UserError
from usae.manifests import Manifest
from usae.store import ActivationStore

SHUFFLED_PAIRS = 7  # stream of the seed that re-pairs images


@dataclass(frozen=True)
class Batch:
    """images: which images. activations: raw rows of each model, float32 [images * tokens, d_j]."""

    step: int
    epoch: int
    images: np.ndarray
    activations: list[Float[Tensor, "n _"]]


class PairedActivations:
    """The stores of several models, read side by side."""

    def __init__(self, stores: Sequence[ActivationStore], pairs: str = "matched", seed: int = 0) -> None:
        self.stores = list(stores)
        self.images = stores[0].images
        self._chunks = [[store.chunk(j) for j in range(store.chunks)] for store in stores]
        self._partners = [self._partner(number, pairs, seed) for number in range(len(stores))]

    def rows(self, images: np.ndarray) -> list[Float[Tensor, "n _"]]:
        """Activations of `images` for every model, all tokens of each image, float32 [images * tokens, d]."""
        return [self._gather(number, self._partners[number][images]) for number in range(len(self.stores))]

    def tokens(self, model: int, images: np.ndarray, positions: np.ndarray) -> Float[Tensor, "n d"]:
        """One token each: `positions` of `images` for the model of that number, float32."""
        store, partners = self.stores[model], self._partners[model][images]
        chunks, offsets = np.divmod(partners, store.chunk_images)
        picked = [self._chunks[model][c][o, t] for c, o, t in zip(chunks, offsets, positions, strict=True)]
        return torch.from_numpy(np.stack(picked).astype(np.float32))  # (tokens, width)

    def batches(self, order: np.ndarray, batch_images: int, epoch: int, first_step: int) -> Iterator[Batch]:
        """The images of `order` in batches; the next one is read while the caller works on this one."""
        groups = [order[start : start + batch_images] for start in range(0, len(order), batch_images)]
        with ThreadPoolExecutor(1) as pool:
            ahead = [pool.submit(self.rows, groups[0])]
            for number, images in enumerate(groups):
                if number + 1 < len(groups):
                    ahead.append(pool.submit(self.rows, groups[number + 1]))
                yield Batch(first_step + number, epoch, images, ahead.pop(0).result())

    def _gather(self, number: int, images: np.ndarray) -> Tensor:
        store, chunks = self.stores[number], self._chunks[number]
        out = np.empty((len(images), store.tokens, store.width), np.float32)
        for row, image in enumerate(images):
            chunk, offset = divmod(int(image), store.chunk_images)
            out[row] = chunks[chunk][offset]
        return torch.from_numpy(out).flatten(0, 1)  # (images * tokens, d)

    def _partner(self, number: int, pairs: str, seed: int) -> np.ndarray:
        """Which image of model `number` stands beside image i of the first model."""
        if pairs == "matched" or number == 0:
            return np.arange(self.images)
        return np.random.default_rng([seed, SHUFFLED_PAIRS, number]).permutation(self.images)


def open_paired(manifests: Mapping[str, Manifest], root: Path, pairs: str, seed: int) -> PairedActivations:
    """The training stores that `manifests` name, each complete (see `Manifest.open`)."""
    return PairedActivations([manifest.open("train", root) for manifest in manifests.values()], pairs, seed)


def order(seed: int, epoch: int, images: int) -> np.ndarray:
    """The images of an epoch, in the order in which they are trained on."""
    return np.random.default_rng([seed, epoch]).permutation(images)


def check_batch(batch_images: int, images: int) -> None:
    """A batch must not be larger than the training set.

    Raises:
        UserError: it is.
    """
    if batch_images > images:
        raise UserError(
            f"`train.batch_images` is {batch_images}, but there are only {images} training images; "
            f"set it to {images} or less, or take more images."
        )
