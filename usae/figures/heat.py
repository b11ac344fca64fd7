"""Heatmaps of one concept over images: the same colours in the concept grid and on the page (stage `report`)."""

import io

import matplotlib as mpl
import numpy as np
from PIL import Image

HEAT_MAP = "inferno"
DARKEST = 0.3  # of the map: below it the colours vanish on the darkened image
DIM = 0.55  # brightness of the image under a heatmap
FAINTEST = 0.45  # opacity of the smallest positive code


def heat_rgba(codes: np.ndarray, top: float) -> np.ndarray:
    """Codes to colours: transparent at 0, opaque at `top`.

    Shapes: codes [...] float -> [..., 4] uint8.
    """
    share = np.clip(codes / top, 0, 1) if top > 0 else np.zeros_like(codes)
    colour: np.ndarray = mpl.colormaps[HEAT_MAP](DARKEST + (1 - DARKEST) * share)  # (..., rgba)
    colour[..., 3] = np.where(codes > 0, FAINTEST + (1 - FAINTEST) * share, 0)
    return np.asarray(np.rint(colour * 255), dtype=np.uint8)


def overlay(image: np.ndarray, heat: np.ndarray, opacity: float = 0.85) -> np.ndarray:
    """A darkened, grey image with its heatmap on top, one cell per token.

    Shapes: image [side, side, 3] uint8, heat [grid, grid, 4] uint8 -> [side, side, 3] uint8.
    """
    side = len(image)
    grey = image.mean(axis=-1, keepdims=True).repeat(3, axis=-1) * DIM
    cells: np.ndarray = np.asarray(
        Image.fromarray(heat).resize((side, side), Image.Resampling.NEAREST), np.float64
    )
    alpha = opacity * cells[..., 3:] / 255
    return np.asarray(np.rint((1 - alpha) * grey + alpha * cells[..., :3]), dtype=np.uint8)


def strip(tiles: np.ndarray) -> np.ndarray:
    """Tiles side by side: (n, rows, columns, channels) -> (rows, n * columns, channels)."""
    return np.concatenate(list(tiles), axis=1)


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    """An array [rows, columns, 3 or 4] uint8 as the bytes of a `jpeg` or `png` file."""
    buffer = io.BytesIO()
    options = {"quality": 88} if kind == "jpeg" else {"optimize": True}
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()
