"""Not only the best images of a concept: bands of all on which it fires, the spread of its codes (`report`)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from usae.common.seeds import generator
from usae.common.types import Array
from usae.evidence.codes.rows import fired
from usae.evidence.codes.store import CodeChunk, CodeStore, aligned_chunks
from usae.showing.explorer.album import Album, sheet
from usae.showing.results.examples import different, heatmaps
from usae.showing.scripts import Json, plain_value

BAND = 4  # images
BINS = 16  # of a histogram


@dataclass
class FiringImages:
    """On which images chosen concepts fire in any model, and their largest code there, mean over models.

    images, codes: per chosen concept, arrays per chunk. counts (models, chosen, BINS): fires by their code, in
    equal parts from 0 to `tops` (chosen,), the concept's largest code in any model.
    """

    chosen: Sequence[int]
    concepts: int
    threshold: float
    tops: Array
    models: int
    images: list[list[Array]] = field(init=False)
    codes: list[list[Array]] = field(init=False)
    counts: Array = field(init=False)

    def __post_init__(self) -> None:
        self.images = [[] for _ in self.chosen]
        self.codes = [[] for _ in self.chosen]
        self.counts = np.zeros((self.models, len(self.chosen), BINS), dtype=np.int64)
        self.column = np.full(self.concepts, -1)
        self.column[list(self.chosen)] = np.arange(len(self.chosen))

    def update(self, chunks: Sequence[CodeChunk]) -> None:
        """Add one chunk of every model, for the same images."""
        peaks = np.zeros((self.models, len(chunks[0].images), len(self.chosen)), np.float32)
        for model, chunk in enumerate(chunks):
            token, column, values = self._fires(chunk)
            np.maximum.at(peaks[model], (token // chunk.indices.shape[1], column), values)
            bins = np.minimum(BINS * values / np.maximum(self.tops[column], 1e-9), BINS - 1).astype(int)
            np.add.at(self.counts[model], (column, bins), 1)
        means = peaks.mean(axis=0)  # (images, chosen)
        for number in range(len(self.chosen)):
            rows = np.flatnonzero(means[:, number])
            self.images[number].append(chunks[0].images[rows])
            self.codes[number].append(means[rows, number])

    def ranked(self, number: int) -> tuple[Array, Array]:
        """Images of one chosen concept and its codes there, best first."""
        images, codes = (np.concatenate(parts[number]) for parts in (self.images, self.codes))
        order = np.lexsort((images, -codes))
        return images[order], codes[order]

    def _fires(self, chunk: CodeChunk) -> tuple[Array, Array, Array]:
        """Token, place among the chosen concepts, and code of each fire of these."""
        token, concept = fired(chunk, self.threshold)
        column, codes = self.column[concept], chunk.values.ravel()
        kept = column >= 0
        return token[kept], column[kept], codes[codes > np.float32(self.threshold)][kept]


def firing_images(
    codes: Mapping[str, CodeStore], chosen: Sequence[int], tops: Array, threshold: float
) -> FiringImages:
    """Count over all held-out images; `tops` (chosen,) as in `FiringImages`."""
    first = next(iter(codes.values()))
    counted = FiringImages(chosen, first.concepts, threshold, tops, len(codes))
    for chunks in aligned_chunks(codes):
        counted.update(chunks)
    return counted


def band_images(images: Array, concept: int, seed: int) -> dict[str, list[int]]:
    """Of the images on which a concept fires, best first: around the median, the last, any (drawn by the seed)."""
    from_middle = np.abs(np.arange(len(images)) - len(images) // 2).argsort(kind="stable")
    drawn = generator(seed, "random firing images", concept).permutation(len(images))[: 4 * BAND]
    bands = {
        "middle": images[from_middle][: 4 * BAND],
        "weakest": images[::-1][: 4 * BAND],
        "random": images[drawn],
    }
    return {name: [int(image) for image in band] for name, band in bands.items()}


def make_bands(
    codes: Mapping[str, CodeStore],
    counted: FiringImages,
    best: Mapping[int, Sequence[int]],
    album: Album,
    seed: int,
) -> dict[int, Json]:
    """Per chosen concept `of`, on how many images it fires, and per band unlike images with heatmaps.

    `best` are the images of the card, of which the first are band `top`. A heatmap is the mean over models, on one
    scale for all bands, `peak`.
    """
    shown: list[dict[str, list[int]]] = []
    ranks: list[Array] = []
    for number, concept in enumerate(counted.chosen):
        images, _ = counted.ranked(number)
        bands = {"top": list(best[concept])} | band_images(images, concept, seed)
        shown.append({name: different(band, BAND, album.sketch) for name, band in bands.items()})
        ranks.append(images)
    flat = [[image for band in bands.values() for image in band] for bands in shown]
    maps = heatmaps(codes, counted.chosen, flat)
    return {
        concept: _bands(bands, cells.mean(axis=0), images)
        for concept, bands, cells, images in zip(counted.chosen, shown, maps, ranks, strict=True)
    }


def histograms(counted: FiringImages) -> dict[int, Json]:
    """Per chosen concept the fires of each model by code, in BINS equal parts up to `top`."""
    return {
        concept: {"top": plain_value(float(counted.tops[number])), "counts": counted.counts[:, number].tolist()}
        for number, concept in enumerate(counted.chosen)
    }


def _bands(bands: Mapping[str, Sequence[int]], cells: Array, images: Array) -> Json:
    """cells (n, grid, grid): of the images of all bands, one after another."""
    peak = float(cells.max(initial=0))
    return {
        "of": len(images),
        "peak": plain_value(peak),
        "heat": sheet([cells], [peak]),
        "images": {name: list(band) for name, band in bands.items()},
        "codes": [plain_value(float(tile.max())) for tile in cells],
    }


def all_images(bands: Json) -> Iterable[int]:
    """The images of all bands of a card."""
    return (image for band in bands["images"].values() for image in band)
