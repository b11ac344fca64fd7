"""What there is of images before the index is made: how many each split would have, their classes and sizes.

Used by `usae check` and `usae start`. Nothing is decoded; of some files the header is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from PIL import Image

from usae.common.params import ImagesParams
from usae.images.pixels.decoding import DAMAGE, FORMATS
from usae.images.sources.folders import folder_records, label_names_of
from usae.images.sources.parquet import parquet_sizes
from usae.images.sources.splits import split_sizes
from usae.images.sources.writing import generated_sizes

LOOKED_AT = 200  # files whose header is read, spread over the whole list


@dataclass(frozen=True)
class Survey:
    """found: images of the source, by its own splits or `all`. sides: shorter ones, of the files looked at."""

    found: dict[str, int]
    sizes: dict[str, int]  # of `train` and `val`, as params.yaml cuts them
    classes: int
    sides: tuple[int, ...] = ()  # pixels
    unreadable: int = 0  # of the files looked at

    def __str__(self) -> str:
        whose = "the source's own split" if "val" in self.found else "held out by seed"
        split = f"{self.sizes['train']} training + {self.sizes['val']} held-out images ({whose})"
        return f"{split} of {sum(self.found.values())}, {self.classes} classes{self._sides_text()}"

    def _sides_text(self) -> str:
        if not self.sides:
            return ""
        return f", shorter side {min(self.sides)} to {max(self.sides)}, median {median(self.sides):.0f}"


def survey(params: ImagesParams) -> Survey:
    """What stage `images` would find.

    Raises:
        UserError: the source is not there, has no image, or leaves a split empty.
    """
    look = {"shapes": _shapes, "folder": _folder, "parquet": _parquet}
    return look[params.source](params)


def cut(found: dict[str, int], params: ImagesParams) -> dict[str, int]:
    """Images of `train` and `val` from those of a source.

    Raises:
        UserError: a split would be empty.
    """
    return split_sizes(found, {"train": params.train, "val": params.val}, params.val_share)


def _shapes(params: ImagesParams) -> Survey:
    sizes = generated_sizes(params)
    return Survey(sizes, sizes, classes=0)


def _parquet(params: ImagesParams) -> Survey:
    found, names = parquet_sizes(Path(params.path or ""))
    return Survey(found, cut(found, params), len(names))


def _folder(params: ImagesParams) -> Survey:
    splits = folder_records(Path(params.path or ""))
    records = [record for group in splits.values() for record in group]
    sides = [_side(file) for file in _spread([record.path for record in records if record.path is not None])]
    readable = tuple(side for side in sides if side is not None)
    found = {split: len(group) for split, group in splits.items()}
    classes = len(label_names_of(records))
    return Survey(found, cut(found, params), classes, readable, len(sides) - len(readable))


def _spread(files: Sequence[Path]) -> Sequence[Path]:
    return files[:: -(-len(files) // LOOKED_AT) or 1]


def _side(file: Path) -> int | None:
    """The shorter side that the file's header names; None where there is none."""
    try:
        with Image.open(file, formats=FORMATS) as image:
            return min(image.size)
    except DAMAGE:
        return None
