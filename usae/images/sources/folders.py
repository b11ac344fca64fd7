"""Which images a source offers: the files below a folder, or the rows of Parquet files, by split, in random order.

Used by stage `images`. Nothing is decoded here.
"""

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from usae.common.errors import UserError
from usae.images.pixels.decoding import SUFFIXES
from usae.images.pixels.index import Record
from usae.images.sources.splits import TRAIN_NAMES, VAL_NAMES, shuffled_records

NAMED = 3  # of the files that are passed over

log = logging.getLogger("usae")


def folder_records(root: Path) -> dict[str, list[Record]]:
    """The images below `root` by split: class folders or flat, below `train/` and `val/` where these exist.

    Raises:
        UserError: no such folder, or no image in it.
    """
    _refuse_no_folder(root, "images.path")
    splits = _split_folders(root) or {"all": root}
    return {split: _labelled_files(folder, "images.path") for split, folder in splits.items()}


def shuffled_folder(root: Path, key: str, seed: int) -> list[Record]:
    """All images below `root`, whatever its folders, in an order by seed; `key` is the parameter that names it.

    Raises:
        UserError: no such folder, or no image in it.
    """
    _refuse_no_folder(root, key)
    return shuffled_records(_labelled_files(root, key), seed, key)


def label_names_of(records: Iterable[Record]) -> tuple[str, ...]:
    """Class names of folder records: the folder below the split, sorted; empty for flat folders."""
    return tuple(sorted({_class_of(record) for record in records} - {""}))


def _refuse_no_folder(root: Path, key: str) -> None:
    if not root.is_dir():
        raise UserError(
            f"`{key}` is '{root}', which is not a folder here ({Path.cwd()}). Put or link the images there "
            f"(ln -s /where/they/are data/external/images), or change `{key}` in params.yaml."
        )


def _split_folders(root: Path) -> dict[str, Path]:
    folders: dict[str, Path] = {}
    for split, names in {"train": TRAIN_NAMES, "val": VAL_NAMES}.items():
        for name in names:
            if split not in folders and (root / name).is_dir():
                folders[split] = root / name
    return folders if "train" in folders else {}


def _labelled_files(folder: Path, key: str) -> list[Record]:
    below = sorted(_files_below(folder))
    files = [file for file in below if file.suffix.lower() in SUFFIXES]
    if others := [file for file in below if file.suffix.lower() not in SUFFIXES]:
        shown = ", ".join([str(file.relative_to(folder)) for file in others[:NAMED]])
        shown += ", ..." if len(others) > NAMED else ""
        log.warning("%s: %d files do not end as images do and are passed over: %s", folder, len(others), shown)
    if not files:
        raise UserError(
            f"There is no image below '{folder}' (looked for {', '.join(sorted(SUFFIXES)[:6])}, ...). "
            f"Check `{key}` in params.yaml."
        )
    records = [_record(file, str(file.relative_to(folder))) for file in files]
    labels = {name: label for label, name in enumerate(label_names_of(records))}
    return [replace(record, label=labels.get(_class_of(record))) for record in records]


def _record(file: Path, key: str) -> Record:
    """A name that is no UTF-8 cannot be written down: its image is left out, and named as far as that goes."""
    readable = os.fsencode(key).decode("utf-8", "backslashreplace")
    if readable == key:
        return Record(key=key, path=file)
    return Record(key=readable, fault="the file's name is not UTF-8; rename it")


def _files_below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Files and dead links (each becomes a fault, not a gap), in linked folders too, but not round and round."""
    here = folder.resolve()
    for entry in folder.iterdir() if here not in above else ():
        if entry.is_dir():
            yield from _files_below(entry, (*above, here))
        elif entry.is_file() or not entry.exists():
            yield entry


def _class_of(record: Record) -> str:
    folder, *below = Path(record.key).parts
    return folder if below else ""
