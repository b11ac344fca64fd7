"""Which concepts fire where in an image: files beside the page, `explorer/codes-NN.js`, for its view of one image
(stage `report`).

A file has the codes of 64 images. Of an image they are packed: all models' concepts, the low bytes of all, then
the next ones if the dictionary is so large; then a level for each code. Levels 1 to 15 do not fire, and are shares
of the threshold; above, the code's excess over the threshold is the square of the level's, of the largest excess.
"""

import base64
import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from PIL import Image

from usae.common.types import Array
from usae.evidence.codes.store import CodeStore
from usae.images.pixels.geometry import fit_image
from usae.showing.explorer.album import Album
from usae.showing.scripts import Json, plain_value, script_text, webp

IMAGES = 64  # in a file
QUIET = 15  # levels up to here do not fire
LOUDEST = 255
PHOTO = 256  # most pixels per side of an image seen alone


def image_files(
    codes: Mapping[str, CodeStore], album: Album, images: Sequence[int], threshold: float, most: int
) -> Iterator[Json]:
    """`images` of each file in turn, as long as all together are below `most` bytes."""
    size = 0
    for start in range(0, len(images), IMAGES):
        block = images[start : start + IMAGES]
        content = {
            "images": dict(zip(map(str, block), packed_images(codes, album, block, threshold), strict=True))
        }
        size += len(script_text(content))
        if size > most:
            return
        yield content


def packed_images(
    codes: Mapping[str, CodeStore], album: Album, images: Sequence[int], threshold: float
) -> list[Json]:
    """Per image its `codes`, each model's largest in `peaks`, a larger `photo` where there is more to see."""
    chunks = [store.read(images) for store in codes.values()]
    concepts = next(iter(codes.values())).concepts
    return [
        {
            "codes": packed(
                [c.indices[row] for c in chunks], [c.values[row] for c in chunks], concepts, threshold
            ),
            "peaks": [plain_value(float(chunk.values[row].max(initial=0))) for chunk in chunks],
            "photo": large_photo(album, image),
        }
        for row, image in enumerate(images)
    ]


def packed(indices: Sequence[Array], values: Sequence[Array], concepts: int, threshold: float) -> str:
    """One image's codes of all models, each (t, k), as base64 of deflated bytes."""
    places = np.stack(indices).astype("<u4").ravel()  # (models * tokens * k,)
    planes = [places >> shift & 255 for shift in range(0, plane_bits(concepts), 8)]
    planes += [code_levels(codes, threshold).ravel() for codes in values]
    return base64.b64encode(zlib.compress(np.concatenate(planes).astype(np.uint8).tobytes(), 9)).decode()


def plane_bits(concepts: int) -> int:
    """Bits that a concept's number takes, in whole bytes."""
    return 8 * max(1, -(-(concepts - 1).bit_length() // 8))


def code_levels(codes: Array, threshold: float) -> Array:
    """Codes as levels 0 to 255, 0 for none; those that fire are above QUIET, and nothing else is."""
    excess = float(codes.max(initial=0)) - threshold
    share = np.sqrt(np.clip((codes - threshold) / excess, 0, 1)) if excess > 0 else np.zeros_like(codes)
    firing = QUIET + 1 + np.rint(share * (LOUDEST - QUIET - 1))
    quiet = np.clip(np.rint(QUIET * codes / threshold), 1, QUIET)
    return np.where(codes > np.float32(threshold), firing, np.where(codes > 0, quiet, 0)).astype(np.uint8)


def large_photo(album: Album, image: int) -> str | None:
    """The image as the models saw it, as large as it is and at most PHOTO; None where the thumbnail shows all."""
    picture = album.index.open(image)
    side = min(PHOTO, *picture.size)
    if side <= album.side:
        return None
    return webp(Image.fromarray(fit_image(picture, side, album.fit, "bicubic").transpose(1, 2, 0)))
