"""Which images a source offers: the files below a folder, or the rows of Parquet files, by split, in random order.

Used by stage `images`. Nothing is decoded here.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from usae.decoding import SUFFIXES
from usae.errors import UserError
from usae.images import Record

TRAIN_NAMES, VAL_NAMES = ("train", "training"), ("val", "valid", "validation", "test")


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
    return _shuffled(_labelled_files(root, key), seed, key)


def parquet_records(path: Path) -> tuple[dict[str, list[Record]], tuple[str, ...]]:
    """The images in a Parquet file, or in `train*.parquet` and `val*.parquet` of a folder, and the label names.

    Columns as Hugging Face writes them: `image` (a struct with `bytes`) and, if known, `label`.

    Raises:
        UserError: nothing there, or a file without these columns.
    """
    files = {"all": [path]} if path.is_file() else _split_files(path)
    if not files:
        raise UserError(
            f"`images.path` is '{path}'; expected a Parquet file, or a folder with train*.parquet "
            "(and val*.parquet), found neither."
        )
    names: tuple[str, ...] = ()
    for file in (file for group in files.values() for file in group):
        found = _checked_label_names(file)
        names = names or found
    return {split: [r for file in group for r in _parquet_rows(file)] for split, group in files.items()}, names


def label_names_of(records: Iterable[Record]) -> tuple[str, ...]:
    """Class names of folder records: the folder below the split, sorted; empty for flat folders."""
    return tuple(sorted({_class_of(record) for record in records} - {""}))


def split_and_limit(
    records: dict[str, list[Record]], limits: dict[str, int | None], val_share: float, seed: int
) -> dict[str, list[Record]]:
    """`train` and `val` records in random order by seed, cut to their limits.

    The splits are the source's own; where it has no `val`, a share of its images is held out.

    Raises:
        UserError: a split would be empty.
    """
    shuffled = {split: _shuffled(group, seed, split) for split, group in records.items()}
    if "val" not in shuffled:
        (whole,) = shuffled.values()
        held_out = max(1, round(val_share * len(whole)))
        shuffled = {"train": whole[held_out:], "val": whole[:held_out]}
    if empty := [split for split, group in shuffled.items() if not group]:
        found = ", ".join(f"{split}: {len(group)} images" for split, group in records.items())
        raise UserError(
            f"The split {' and '.join(empty)} would be empty (found {found}); give more images, "
            "or lower `images.val_share`."
        )
    return {split: group[: limits[split]] for split, group in shuffled.items()}


def _refuse_no_folder(root: Path, key: str) -> None:
    if not root.is_dir():
        raise UserError(
            f"`{key}` is '{root}', which is not a folder here ({Path.cwd()}). Put or link the images there "
            f"(ln -s /where/they/are data/external/images), or change `{key}` in params.yaml."
        )


def _split_folders(root: Path) -> dict[str, Path]:
    found = {}
    for split, names in {"train": TRAIN_NAMES, "val": VAL_NAMES}.items():
        for name in names:
            if split not in found and (root / name).is_dir():
                found[split] = root / name
    return found if "train" in found else {}


def _labelled_files(folder: Path, key: str) -> list[Record]:
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and _is_listed(file))
    if not files:
        raise UserError(
            f"There is no image below '{folder}' (looked for {', '.join(sorted(SUFFIXES)[:6])}, ...). "
            f"Check `{key}` in params.yaml."
        )
    records = [Record(key=str(file.relative_to(folder)), path=file) for file in files]
    numbers = {name: number for number, name in enumerate(label_names_of(records))}
    return [replace(record, label=numbers.get(_class_of(record))) for record in records]


def _is_listed(file: Path) -> bool:
    return file.is_file() or (file.is_symlink() and not file.exists())  # a dead link becomes a fault, not a gap


def _class_of(record: Record) -> str:
    parts = Path(record.key).parts
    return parts[0] if len(parts) > 1 else ""


def _split_files(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for split, names in {"train": TRAIN_NAMES, "val": VAL_NAMES}.items():
        for name in names:
            files = sorted(folder.glob(f"{name}*.parquet"))
            if files and split not in found:
                found[split] = files
    return found if "train" in found else {}


def _checked_label_names(file: Path) -> tuple[str, ...]:
    try:
        schema = pq.read_schema(file)
    except pa.ArrowInvalid as error:
        raise UserError(f"'{file}' should be a Parquet file, and is none or is damaged: {error}") from error
    image = schema.field("image").type if "image" in schema.names else None
    if image is None or not (pa.types.is_struct(image) and image.get_field_index("bytes") >= 0):
        raise UserError(
            f"'{file}' should have a column `image` that is a struct with the field `bytes`; "
            f"found the columns {', '.join(schema.names)}."
        )
    if "label" in schema.names and not pa.types.is_integer(schema.field("label").type):
        raise UserError(
            f"The column `label` of '{file}' should hold class numbers, found {schema.field('label').type}; "
            "number the classes, or rename the column to leave it out."
        )
    metadata = schema.metadata or {}
    features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return tuple(features.get("label", {}).get("names", ()))


def _parquet_rows(file: Path) -> Iterator[Record]:
    table = pq.ParquetFile(file)
    columns = [name for name in ("image", "label") if name in table.schema_arrow.names]
    row = 0
    for batch in table.iter_batches(batch_size=1024, columns=columns):
        for item in batch.to_pylist():
            yield Record(
                key=f"{file.stem}/{row:08d}", data=(item["image"] or {}).get("bytes"), label=item.get("label")
            )
            row += 1


def _shuffled(records: list[Record], seed: int, split: str) -> list[Record]:
    """The records in an order that depends on their keys, the seed and the split's name alone."""
    stream = int.from_bytes(hashlib.blake2b(split.encode(), digest_size=4).digest())
    ordered = sorted(records, key=lambda record: record.key)
    return [ordered[i] for i in np.random.default_rng([seed, stream]).permutation(len(ordered))]
