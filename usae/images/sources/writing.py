"""Where images come from: the generated world, a folder, or Parquet; and the writing of both indexes.

Used by stage `images`. Every index is in random order by seed, so any prefix of it is a fair sample: limits,
statistics and the encoded part of the training set are prefixes.
"""

import io
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from usae.common.errors import UserError
from usae.common.files.whole import write_output
from usae.common.params import ImagesParams
from usae.common.runtime.parallel import side_by_side
from usae.common.runtime.progress import progress
from usae.images.pixels.index import Record, checked, write_index
from usae.images.sources.folders import folder_records, label_names_of
from usae.images.sources.parquet import parquet_records
from usae.images.sources.shapes.scenes import ATTRIBUTES, Scene, scene
from usae.images.sources.splits import split_and_limit

SPLITS = ("train", "val")
SCENES = 200  # drawn at a time
NAMED = 3  # images that cannot be read, in the log
MOST_LABEL = 2**31 - 1  # what a class's number may be in the index

log = logging.getLogger("usae")


@dataclass(frozen=True)
class Counts:
    """How many images of a split can be read, and how many cannot."""

    readable: int
    skipped: int

    @property
    def found(self) -> int:
        """Both."""
        return self.readable + self.skipped


def write_images(folder: Path, params: ImagesParams, seed: int, workers: int) -> dict[str, Counts]:
    """Write `train.parquet` and `val.parquet` to `folder`; for the generated world also `*_truth.npz`.

    Raises:
        UserError: the source is not there, a split is empty, none of its images can be read, a label has no name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if params.source == "shapes":
        return _write_shapes(folder, params, seed)
    root = Path(params.path or "")
    if params.source == "folder":
        splits = folder_records(root)
        names = label_names_of(record for records in splits.values() for record in records)
    else:
        splits, names = parquet_records(root)
    limits = {"train": params.train, "val": params.val}
    chosen = split_and_limit(splits, limits, params.val_share, seed)
    _refuse_nameless(chosen, names)
    read = {split: list(checked(records, workers, f"images {split}")) for split, records in chosen.items()}
    _report_copies(read)
    for split, records in read.items():
        _report_faults(records, folder / f"{split}.parquet")
    return {split: _write(records, folder / f"{split}.parquet", root, names) for split, records in read.items()}


def generated_sizes(params: ImagesParams) -> dict[str, int]:
    """How many scenes of the generated world each split gets.

    Raises:
        UserError: it is left open.
    """
    if params.train is None or params.val is None:
        raise UserError(
            "`images.source: shapes` makes as many images as it is told: set `images.train` and `images.val` to "
            "numbers (the demo has 3000 and 600), not null."
        )
    return {"train": params.train, "val": params.val}


def _refuse_nameless(splits: dict[str, list[Record]], names: tuple[str, ...]) -> None:
    """Labels are indexes of the class names, where there are names."""
    most = len(names) - 1 if names else MOST_LABEL
    faults = [
        f"{split} '{record.key}' has label {record.label}"
        for split, records in splits.items()
        for record in records
        if record.label is not None and record.label > most
    ]
    if faults:
        there = f"there are {len(names)} class names, so labels" if names else "labels"
        raise UserError.listing(f"In the source {there} should be 0 to {most} (none: -1 or null); found", faults)


def _report_copies(splits: dict[str, list[Record]]) -> None:
    """Say so where held-out images were trained on as well: what they prove is less."""
    trained = {record.digest: record.key for record in splits["train"] if record.digest}
    copies = [(r.key, trained[r.digest]) for r in splits["val"] if r.digest and r.digest in trained]
    if copies:
        log.warning(
            "%d of %d held-out images are copies of training images, byte for byte (first '%s' of '%s'). Take "
            "them out of one side, or what held-out images prove is in part proven by what was trained on.",
            len(copies),
            len(splits["val"]),
            *copies[0],
        )


def _report_faults(records: list[Record], path: Path) -> None:
    """Name the first images that cannot be read, and where all of them are listed."""
    faulty = [f"'{record.key}' ({record.fault})" for record in records if record.fault]
    if faulty:
        more = f" and {len(faulty) - NAMED} more" if len(faulty) > NAMED else ""
        named = ", ".join(faulty[:NAMED]) + more
        text = "%d of %d images cannot be read and are left out: %s. %s lists them (column `fault`)."
        log.warning(text, len(faulty), len(records), named, path)


def _write_shapes(folder: Path, params: ImagesParams, seed: int) -> dict[str, Counts]:
    """The generated world: train scenes come first in the numbering, held-out scenes follow."""
    sizes = generated_sizes(params)
    total = sum(sizes.values())
    spans = [range(total)[start : start + SCENES] for start in range(0, total, SCENES)]
    drawn = side_by_side(lambda span: [scene(seed, number) for number in span], spans, torch.device("cpu"))
    scenes = chain.from_iterable(progress(drawn, total=len(spans), description="scenes"))
    counts = {}
    for split, count in sizes.items():
        split_scenes = list(islice(scenes, count))
        records = (_scene_record(image, item) for image, item in enumerate(split_scenes))
        counts[split] = _write(records, folder / f"{split}.parquet", None, ())
        coverage = np.stack([item.coverage for item in split_scenes])  # (images, grid, grid, attributes)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, names=np.array(ATTRIBUTES), coverage=coverage)
        write_output(folder / f"{split}_truth.npz", buffer.getvalue())
    return counts


def _scene_record(image: int, item: Scene) -> Record:
    buffer = io.BytesIO()
    Image.fromarray(item.image).save(buffer, "PNG")
    return Record.of_bytes(f"{image:06d}", buffer.getvalue(), caption=item.caption)


def _write(records: Iterable[Record], path: Path, root: Path | None, names: tuple[str, ...]) -> Counts:
    readable, skipped = write_index(records, path, root, names)
    if not readable:
        raise UserError(
            f"None of the {skipped} images of this split can be read; {path} lists why (column `fault`). "
            "Are these image files?"
        )
    return Counts(readable, skipped)
