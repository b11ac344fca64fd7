"""The pictures of the page: every image once, however many cards show it (stage `report`)."""

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from usae.common.params import Fit
from usae.images.pixels.index import ImageIndex
from usae.showing.figures.heat import heat_levels, heat_palette
from usae.showing.maximisation.pictures import read_picture
from usae.showing.results.examples import ConceptExample, sketch_of, thumbnails

QUALITY = 72  # of WebP
PICTURE = 128  # most pixels per side of a maximised picture on the page


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

    def photos_of(self, images: set[int]) -> dict[str, str]:
        """The photos of these images, by number, for the page."""
        return {str(image): self.photo(image) for image in sorted(images)}

    def _open(self, image: int) -> None:
        (picture,) = thumbnails(self.index, [image], self.side, self.fit)
        self.sketches[image] = sketch_of(picture)
        self.photos[image] = webp(Image.fromarray(picture))


def webp(image: Image.Image, quality: int = QUALITY) -> str:
    """An image as a WebP data URI."""
    buffer = io.BytesIO()
    image.save(buffer, "webp", quality=quality)
    return data_uri(buffer.getvalue(), "image/webp")


def heat_sheet(example: ConceptExample) -> str:
    """All heatmaps of an example in one small PNG: a row of cells per model, a column per image."""
    rows = [
        np.concatenate(list(heat_levels(codes, example.peak(model))), axis=1)  # (grid, n * grid)
        for model, codes in zip(example.models, example.codes, strict=True)
    ]
    sheet = Image.fromarray(np.concatenate(rows), "P")
    colours, opacity = heat_palette()
    sheet.putpalette(colours.tobytes())
    buffer = io.BytesIO()
    sheet.save(buffer, "png", bits=4, transparency=opacity.tobytes(), optimize=True)
    return data_uri(buffer.getvalue(), "image/png")


def small_picture(path: Path) -> str:
    """A picture of stage `maximise`, its transparency kept, small enough for the page."""
    picture = read_picture(path)
    picture.thumbnail((PICTURE, PICTURE), Image.Resampling.LANCZOS)
    return webp(picture, 80)


def data_uri(content: bytes, kind: str) -> str:
    """Content as a URI that holds all of it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
