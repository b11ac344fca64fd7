"""The images that show a concept best: highest code anywhere in the image (stage `measure`).

For every concept there is one ranking per model, by the largest code over the tokens of an image, and one by
the mean of these maxima over models.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import pandas as pd

from usae.common.types import Array
from usae.evidence.codes.store import CodeChunk

MEAN = "mean"
IMAGE_BITS = 32
LAST_IMAGE = 2**IMAGE_BITS - 1


@dataclass
class Exemplars:
    """Running top `count` images of c concepts in m + 1 rankings: the mean, then each model.

    `keys` (m + 1, c, count, or the images so far where they are fewer): a code and its image in one integer that
    sorts by code, then by smaller image (the bits of a non-negative float32 sort like the number). 0 = no image.
    """

    models: tuple[str, ...]
    concepts: int
    count: int
    keys: Array = field(init=False)

    def __post_init__(self) -> None:
        self.keys = np.zeros((len(self.models) + 1, self.concepts, 0), dtype=np.int64)

    def update(self, codes: Sequence[CodeChunk]) -> None:
        """Add one chunk: the codes of every model, in order, for the same images."""
        peaks = np.stack([_peaks(chunk, self.concepts) for chunk in codes])  # (models, images, concepts)
        rankings = np.concatenate([peaks.mean(axis=0, keepdims=True), peaks])
        self._widen(len(codes[0].images))
        for ranking, values in enumerate(rankings):
            self._keep(ranking, _keys(values.T, codes[0].images))

    def merge(self, other: Self) -> None:
        """Add the rankings of other images."""
        self._widen(other.keys.shape[2])
        for ranking, keys in enumerate(other.keys):
            self._keep(ranking, keys)

    def frame(self, count: int | None = None) -> pd.DataFrame:
        """Table `exemplars`: concept_id, ranking, rank from 0, image, code; the top `count` (None: all)."""
        ranked = -np.sort(-self.keys, axis=2)[..., :count]  # (rankings, concepts, count), best first
        ranking, concept, rank = np.nonzero(ranked)
        keys = ranked[ranking, concept, rank]
        names = np.array([MEAN, *self.models], dtype=object)
        frame = pd.DataFrame(
            {
                "concept_id": concept,
                "ranking": names[ranking],
                "rank": rank,
                "image": LAST_IMAGE - (keys & LAST_IMAGE),
                "code": (keys >> IMAGE_BITS).astype(np.uint32).view(np.float32),
            }
        )
        return frame.sort_values("concept_id", kind="stable", ignore_index=True)

    def _widen(self, images: int) -> None:
        """Make place for so many more images, up to `count`."""
        more = min(images, self.count - self.keys.shape[2])
        self.keys = np.pad(self.keys, ((0, 0), (0, 0), (0, more)))

    def _keep(self, ranking: int, keys: Array) -> None:
        """Merge (c, n) keys into a ranking; only concepts that gain an image are sorted."""
        current = self.keys[ranking]  # (concepts, count)
        gaining = np.flatnonzero(keys.max(axis=1, initial=0) > current.min(axis=1))
        pool = np.concatenate([current[gaining], keys[gaining]], axis=1)
        if gaining.size:
            width = current.shape[1]
            current[gaining] = np.partition(pool, -width, axis=1)[:, -width:]


def _peaks(chunk: CodeChunk, concepts: int) -> Array:
    """(b, c) float32: the largest code of every concept over the tokens of each image."""
    images = chunk.indices.shape[0]
    peaks = np.zeros(images * concepts, dtype=np.float32)
    rows = np.arange(images)[:, None, None] * concepts  # (images, 1, 1)
    np.maximum.at(peaks, (chunk.indices + rows).ravel(), chunk.values.ravel())
    return peaks.reshape(images, concepts)


def _keys(values: Array, images: Array) -> Array:
    """(c, b) sortable integers of (c, b) codes; 0 where the code is 0."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32).astype(np.int64)
    return np.where(bits > 0, (bits << IMAGE_BITS) | (LAST_IMAGE - images), 0)
