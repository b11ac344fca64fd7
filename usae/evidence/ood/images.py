"""Images of another kind: negatives of the held-out ones, or those of any folder."""

import logging
from pathlib import Path

from PIL import Image, ImageOps

from usae.common.errors import UserError
from usae.images.pixels.index import ImageIndex, checked
from usae.images.sources.folders import shuffled_folder

log = logging.getLogger("usae")

NEGATIVES = "negatives"
KEY = "ood.images"


class Negatives(ImageIndex):
    """The same images as photographic negatives: what is where stays, every colour and shade changes."""

    def open(self, image: int) -> Image.Image:
        """See `ImageIndex`."""
        return ImageOps.invert(super().open(image))


def other_images(choice: str, held_out: ImageIndex, most: int, seed: int, workers: int) -> ImageIndex:
    """What `ood.images` names: negatives of the held-out images, or images below a folder, drawn by seed.

    Raises:
        UserError: no such folder, no image in it, or none that can be read.
    """
    if choice == NEGATIVES:
        return Negatives(held_out.frame, held_out.label_names, held_out.root)
    root = Path(choice)
    records = list(checked(shuffled_folder(root, KEY, seed)[:most], workers, "other images"))
    faults = [f"{record.key}: {record.fault}" for record in records if record.fault]
    if len(faults) == len(records):
        raise UserError.listing(
            f"None of the {len(records)} images drawn from '{root}' (`{KEY}`) can be read. Are these image files?",
            faults[:5],
        )
    if faults:
        log.warning(
            "%d of %d images of `%s` cannot be read, such as %s.", len(faults), len(records), KEY, faults[0]
        )
    return ImageIndex.of(records, root)
