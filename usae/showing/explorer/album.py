"""The pictures of the page: every image once, however many cards show it (stage `report`)."""

import io
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from usae.common.params import Fit
from usae.images.pixels.index import ImageIndex
from usae.showing.figures.heat import heat_levels, heat_palette
from usae.showing.results.examples import ConceptExample, sketch_of, thumbnails
from usae.showing.scripts import data_uri, webp


@dataclass
class Album:
    """Every image that a card shows, once: thumbnails `side` pixels wide, made when first asked for.

    photos, sketches: what has been made, by the image's row in the index.
    """

    index: ImageIndex
    side: int
    fit: Fit
    photos: dict[int, str] = field(default_factory=dict)
    sketches: dict[int, np.ndarray] = field(default_factory=dict)

    def sketch(self, image: int) -> np.ndarray:
        """What near-duplicates are told by: [8, 8, 3] in 0..1."""
        if image not in self.sketches:
            self._open(image)
        return self.sketches[image]

    def photo(self, image: int) -> str:
        """A data URI."""
        if image not in self.photos:
            self._open(image)
        return self.photos[image]

    def photos_of(self, images: Iterable[int]) -> dict[str, str]:
        """The photos of these images, by number, for the page."""
        return {str(image): self.photo(image) for image in sorted(images)}

    def _open(self, image: int) -> None:
        (picture,) = thumbnails(self.index, [image], self.side, self.fit)
        self.sketches[image] = sketch_of(picture)
        self.photos[image] = webp(Image.fromarray(picture))


def heat_sheet(example: ConceptExample) -> str:
    """All heatmaps of an example in one small PNG: a row of cells per model, a column per image."""
    return sheet(example.codes, [example.peak(model) for model in example.models])


def sheet(codes: Iterable[np.ndarray], peaks: Iterable[float]) -> str:
    """A row of cells per array (n, grid, grid) of `codes`, each on its own scale up to its peak."""
    rows = [
        np.concatenate(list(heat_levels(each, peak)), axis=1)  # (grid, n * grid)
        for each, peak in zip(codes, peaks, strict=True)
    ]
    picture = Image.fromarray(np.concatenate(rows), "P")
    colours, opacity = heat_palette()
    picture.putpalette(colours.tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, "png", bits=4, transparency=opacity.tobytes(), optimize=True)
    return data_uri(buffer.getvalue(), "image/png")


def palette() -> list[list[int]]:
    """The colours of a sheet's levels and their opacity, each [red, green, blue, alpha]."""
    colours, opacity = heat_palette()
    levels: list[list[int]] = np.column_stack([colours, opacity]).tolist()
    return levels
