"""Heatmaps of one concept over images: the same colours in the concept grid and on the page (stage `report`)."""

import matplotlib as mpl
import numpy as np
from PIL import Image

HEAT_MAP = "inferno"
DARKEST = 0.3  # of the map: below it the colours vanish on the darkened image
DIM = 0.55  # brightness of the image under a heatmap
FAINTEST = 0.45  # opacity of the smallest positive code
LEVELS = 16  # of a heatmap on the page


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


def heat_levels(codes: np.ndarray, top: float) -> np.ndarray:
    """Codes in 16 levels, 0 for no code, 15 for `top`: [...] float -> [...] uint8, for `heat_palette`."""
    share = np.clip(codes / top, 0, 1) if top > 0 else np.zeros_like(codes)
    return np.where(codes > 0, np.maximum(1, np.rint(share * (LEVELS - 1))), 0).astype(np.uint8)


def heat_palette() -> tuple[np.ndarray, np.ndarray]:
    """The colours of the levels, [16, 3] uint8, and their opacity, [16] uint8; those of `heat_rgba`."""
    rgba = heat_rgba(np.arange(LEVELS) / (LEVELS - 1), 1.0)  # (levels, rgba)
    return rgba[:, :3], rgba[:, 3]
