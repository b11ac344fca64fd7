"""One geometry for all models: how an image meets a network's input, and its feature map the common grid.

Used by stage `extract`. The paper squashes the whole image to a square, so that token (r, c) covers the same
part of the picture in every model whatever its input size; timm's own crops differ between models.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from usae.common.params import Fit

CROP_SHARE = 0.875  # side of the centre crop, as a share of the shorter side; the same for every model
RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Square:
    """The pixels that a network wants of an image: how many a side, of which part of it, and how resampled."""

    size: int
    fit: Fit
    interpolation: str

    def of(self, image: Image.Image) -> UInt8[np.ndarray, "3 size size"]:
        """`image` as this network sees it."""
        return fit_image(image, self.size, self.fit, self.interpolation)


def fit_image(image: Image.Image, size: int, fit: Fit, interpolation: str) -> UInt8[np.ndarray, "3 size size"]:
    """`image` as [3, size, size] bytes: the whole of it squashed, or its centre square.

    Resampling is antialiased when it shrinks (Pillow widens its filter).
    """
    box = (0.0, 0.0, float(image.width), float(image.height)) if fit == "squash" else _centre_square(*image.size)
    resized = image.resize((size, size), RESAMPLING[interpolation], box=box)
    return np.asarray(resized).transpose(2, 0, 1)  # (3, size, size)


def _centre_square(width: int, height: int) -> tuple[float, float, float, float]:
    side = CROP_SHARE * min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side
