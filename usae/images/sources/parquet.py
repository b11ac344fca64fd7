"""Images in Parquet files, as Hugging Face writes them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from usae.common.errors import UserError
from usae.images.pixels.index import Record
from usae.images.sources.splits import TRAIN_NAMES, VAL_NAMES


def parquet_records(path: Path) -> tuple[dict[str, list[Record]], tuple[str, ...]]:
    """The images in a Parquet file, or in `train*.parquet` and `val*.parquet` of a folder, and the label names.

    Columns as Hugging Face writes them: `image` (a struct with `bytes`) and, if known, `label`.

    Raises:
        UserError: nothing there, or a file without these columns.
    """
    files, names = _checked_files(path)
    return {split: [r for file in group for r in _parquet_rows(file)] for split, group in files.items()}, names


def parquet_sizes(path: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    """How many rows `parquet_records` would give, by split, and the label names; no image is read.

    Raises:
        UserError: as `parquet_records`.
    """
    files, names = _checked_files(path)
    rows = {split: sum(pq.read_metadata(file).num_rows for file in group) for split, group in files.items()}
    return rows, names


def _checked_files(path: Path) -> tuple[dict[str, list[Path]], tuple[str, ...]]:
    """The files of each split, and the label names that the first of them to name any has."""
    files = {"all": [path]} if path.is_file() else _split_files(path)
    if not files:
        raise UserError(
            f"`images.path` is '{path}'; expected a Parquet file, or a folder with train*.parquet "
            "(and val*.parquet), found neither."
        )
    names: tuple[str, ...] = ()
    for file in (file for group in files.values() for file in group):
        file_names = _checked_label_names(file)
        names = names or file_names
    return files, names


def _split_files(folder: Path) -> dict[str, list[Path]]:
    splits: dict[str, list[Path]] = {}
    for split, names in {"train": TRAIN_NAMES, "val": VAL_NAMES}.items():
        for name in names:
            files = sorted(folder.glob(f"{name}*.parquet"))
            if files and split not in splits:
                splits[split] = files
    return splits if "train" in splits else {}


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
    return _label_names((schema.metadata or {}).get(b"huggingface", b"{}"))


def _label_names(metadata: bytes) -> tuple[str, ...]:
    """The class names that Hugging Face's metadata hold; none where they are of another form."""
    try:
        names = json.loads(metadata)["info"]["features"]["label"]["names"]
    except (ValueError, LookupError, TypeError):
        return ()
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _parquet_rows(file: Path) -> Iterator[Record]:
    table = pq.ParquetFile(file)
    columns = [name for name in ("image", "label") if name in table.schema_arrow.names]
    row = 0
    for batch in table.iter_batches(batch_size=1024, columns=columns):
        for item in batch.to_pylist():
            label = item.get("label")
            unlabelled = label is None or label < 0  # as Hugging Face marks a split without labels
            data = (item["image"] or {}).get("bytes")
            yield Record(key=f"{file.stem}/{row:08d}", data=data, label=None if unlabelled else label)
            row += 1
