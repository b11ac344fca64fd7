"""Concepts on their best images, and where on them each model switches the concept on (stage `report`)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from usae.common.params import Fit
from usae.evidence.codes.store import CodeStore
from usae.images.pixels.geometry import fit_image
from usae.images.pixels.index import ImageIndex
from usae.showing.results.choice import Choice

SKETCH = 8  # pixels per side of what near-duplicates are told by
ALIKE = 0.04  # root mean square difference of sketches, in 0..1, below which images are near-duplicates

Sketch = Callable[[int], np.ndarray]  # image -> [8, 8, 3] in 0..1


@dataclass(frozen=True)
class ConceptExample:
    """One concept on its images.

    `images` (n,) are rows of the image index; `codes` (m, n, grid, grid) float32 is its code at each token,
    0 where it is not among the k chosen.
    """

    choice: Choice
    models: tuple[str, ...]
    images: tuple[int, ...]
    codes: np.ndarray

    def peak(self, model: str) -> float:
        """The largest code of a model among these images, the top of its heatmap scale."""
        return float(self.codes[self.models.index(model)].max(initial=0.0))


def concept_examples(
    choices: Sequence[Choice],
    exemplars: pd.DataFrame,
    codes: Mapping[str, CodeStore],
    count: int,
    sketch: Sketch | None = None,
) -> list[ConceptExample]:
    """The chosen concepts on their `count` best images, near-duplicates left out where `sketch` shows them."""
    groups = exemplars.sort_values("rank").groupby(["concept_id", "ranking"])["image"]
    ranked: dict[Any, list[int]] = {key: rows.tolist() for key, rows in groups}
    images_of = []
    for choice in choices:
        images = ranked.get((choice.concept, choice.ranking), [])
        images_of.append(different(images, count, sketch) if sketch else images[:count])
    maps = heatmaps(codes, [choice.concept for choice in choices], images_of)
    return [
        ConceptExample(choice, tuple(codes), tuple(images), cells)
        for choice, images, cells in zip(choices, images_of, maps, strict=True)
    ]


def different(images: Sequence[int], count: int, sketch: Sketch) -> list[int]:
    """The first `count` images that no earlier one of them nearly equals."""
    chosen: list[int] = []
    for image in images:
        if len(chosen) == count:
            break
        if all(_distance(sketch(image), sketch(other)) > ALIKE for other in chosen):
            chosen.append(image)
    return chosen


def heatmaps(
    codes: Mapping[str, CodeStore], concepts: Sequence[int], images: Sequence[Sequence[int]]
) -> list[np.ndarray]:
    """Each concept's code at every token of its images: arrays (m, n, grid, grid) float32; a chunk is read
    once."""
    first = next(iter(codes.values()))
    maps = [np.zeros((len(codes), len(row), first.tokens), np.float32) for row in images]
    uses_of: dict[int, list[tuple[int, int, int]]] = {}  # chunk -> index of concept, of image, row in the chunk
    for c, row in enumerate(images):
        for n, image in enumerate(row):
            uses_of.setdefault(image // first.chunk_images, []).append((c, n, image % first.chunk_images))
    for chunk, uses in sorted(uses_of.items()):
        for m, store in enumerate(codes.values()):
            chunk_codes = store.chunk(chunk)
            for c, n, row_in_chunk in uses:
                fires = chunk_codes.indices[row_in_chunk] == concepts[c]  # (tokens, k)
                maps[c][m, n] = np.where(fires, chunk_codes.values[row_in_chunk], 0).sum(axis=-1)
    return [cells.reshape(len(codes), -1, first.grid, first.grid) for cells in maps]


def thumbnails(index: ImageIndex, images: Sequence[int], side: int, fit: Fit) -> np.ndarray:
    """Images in the geometry the models saw: (n, side, side, 3) uint8."""
    fitted = [fit_image(index.open(image), side, fit, "bicubic") for image in images]
    return np.stack(fitted).transpose(0, 2, 3, 1) if fitted else np.empty((0, side, side, 3), np.uint8)


def sketch_of(picture: np.ndarray) -> np.ndarray:
    """Means of blocks: [side, side, 3] uint8, side at least 8 -> [8, 8, 3] in 0..1."""
    edges = np.linspace(0, len(picture), SKETCH + 1).astype(int)
    rows = np.add.reduceat(picture.astype(np.float64), edges[:-1], axis=0) / np.diff(edges)[:, None, None]
    both: np.ndarray = np.add.reduceat(rows, edges[:-1], axis=1) / np.diff(edges)[:, None]
    return both / 255


def _distance(one: np.ndarray, two: np.ndarray) -> float:
    return float(np.sqrt(np.square(one - two).mean()))
