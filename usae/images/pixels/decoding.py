"""Encoded bytes -> RGB pixels, the same for every model, or in words why they are no image.

Used by stage `images`, which lists what cannot be decoded, and by `extract`, which decodes again.
"""

import io
import re
import struct

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = frozenset(Image.registered_extensions())  # also loads every format that Pillow knows
FORMATS = tuple(name for name in Image.ID if name != "EPS")  # which Pillow reads by starting Ghostscript
# What Pillow's readers are known to raise on damaged files, beside their own errors.
DAMAGE = (
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    SyntaxError,
    ArithmeticError,
    LookupError,
    EOFError,
    RuntimeError,
    struct.error,
    Image.DecompressionBombError,
)


class BadImageError(Exception):
    """Bytes that are no readable image; the text says why, and is the same on every run."""


def decode(data: bytes) -> Image.Image:
    """Encoded bytes -> RGB: turned as EXIF says, first frame, 16 bits scaled to 8, transparency over white.

    Raises:
        BadImageError: empty, no image, truncated or damaged, too large, or of pixels without a defined white.
    """
    if not data:
        raise BadImageError("the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return upright_rgb(image)
    except UnidentifiedImageError as error:
        raise BadImageError(f"no known image format; the file begins with {data[:8].hex(' ')}") from error
    except DAMAGE as error:
        text = re.sub(r" at 0x[0-9a-f]+", "", str(error))
        raise BadImageError(f"{type(error).__name__}: {text}") from error


def upright_rgb(image: Image.Image) -> Image.Image:
    """An opened image -> RGB, as `decode` does.

    Raises:
        ValueError: pixels without a defined white.
    """
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        wide = np.asarray(image).astype(np.uint32)  # (height, width), 0..65535
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no defined white; save them with 8 or 16 bits")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")
