"""The image index: which images there are, in which order, and which could not be read.

Written by stage `images` as `data/images/{train,val}.parquet`. Row i of the readable images is image i of every
activation store. Folders are referenced by path, Parquet and generated images travel inside the index.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps, UnidentifiedImageError

from usae.errors import UserError
from usae.progress import progress

SUFFIXES = frozenset(Image.registered_extensions())
TRAIN_NAMES, VAL_NAMES = ("train", "training"), ("val", "valid", "validation", "test")
LABELS_KEY = b"usae.label_names"
SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False, metadata={"description": "unique name within the split"}),
        pa.field("path", pa.string(), metadata={"description": "location below images.path; null when in bytes"}),
        pa.field("bytes", pa.binary(), metadata={"description": "the encoded image; null when in path"}),
        pa.field("label", pa.int32(), metadata={"description": "class, an index of the label names"}),
        pa.field("caption", pa.string(), metadata={"description": "what the image shows, where known"}),
        pa.field("digest", pa.string(), metadata={"description": "BLAKE2b-64 of the encoded image"}),
        pa.field("fault", pa.string(), metadata={"description": "why the image is left out; null when readable"}),
    ]
)


@dataclass(frozen=True)
class Record:
    """One image as a source lists it: its bytes, or where they lie."""

    key: str
    path: Path | None = None
    data: bytes | None = None
    label: int | None = None
    caption: str | None = None
    digest: str | None = None
    fault: str | None = None

    @classmethod
    def of_bytes(cls, key: str, data: bytes, caption: str | None = None) -> "Record":
        """A record of bytes known to be a sound image."""
        return cls(key, data=data, caption=caption, digest=_digest(data))


@dataclass(frozen=True)
class ImageIndex:
    """The readable images of one split; row i of `frame` is image i everywhere.

    frame: columns key, path, bytes, label, caption, digest. root: what `path` is relative to.
    """

    frame: pd.DataFrame
    label_names: tuple[str, ...]
    root: Path | None = None

    @classmethod
    def load(cls, path: Path, root: Path | None = None) -> "ImageIndex":
        """The index at `path`; `root` is `images.path`.

        Raises:
            UserError: there is no index, or it is empty.
        """
        if not path.is_file():
            raise UserError(f"There is no image index at {path}; run `dvc repro images` to write it.")
        table = pq.read_table(path)
        frame = table.to_pandas()
        readable = frame[frame["fault"].isna()].reset_index(drop=True).astype({"label": "Int32"})
        names = json.loads((table.schema.metadata or {}).get(LABELS_KEY, b"[]"))
        return cls(readable, tuple(names), root)

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def digest(self) -> str:
        """Hex digest over keys, order and contents: equal exactly when the images are."""
        text = "\n".join(f"{key}\t{digest}" for key, digest in self.frame[["key", "digest"]].to_numpy())
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def open(self, image: int) -> Image.Image:
        """Image `image`, RGB, upright.

        Raises:
            UserError: it can no longer be read.
        """
        row = self.frame.iloc[image]
        data = row["bytes"]
        where = Path(row["path"]) if data is None else None
        try:
            return decode(data if where is None else (self.root or Path()).joinpath(where).read_bytes())
        except (OSError, UnidentifiedImageError, ValueError) as error:
            raise UserError(
                f"Image {image} ('{row['key']}') was readable when the index was made and is not now: {error}. "
                "Restore it, or run `dvc repro -f images` to make the index without it."
            ) from error


def load_splits(folder: Path, path: str | None) -> dict[str, ImageIndex]:
    """Both indexes in `folder`; `path` is `images.path`, below which images of a folder source lie."""
    return {
        split: ImageIndex.load(folder / f"{split}.parquet", None if path is None else Path(path))
        for split in ("train", "val")
    }


def decode(data: bytes) -> Image.Image:
    """Encoded bytes -> RGB, turned as its EXIF says."""
    with Image.open(io.BytesIO(data)) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def folder_records(root: Path) -> dict[str, list[Record]]:
    """The images below `root` by split: class folders or flat, below `train/` and `val/` where these exist.

    Raises:
        UserError: no such folder, or no image in it.
    """
    if not root.is_dir():
        raise UserError(
            f"`images.path` is '{root}', which is not a folder here ({Path.cwd()}). Put or link the images there "
            "(ln -s /where/they/are data/external/images), or change `images.path` in params.yaml."
        )
    splits = _split_folders(root) or {"all": root}
    return {split: _labelled_files(folder) for split, folder in splits.items()}


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
        names = names or _checked_label_names(file)
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


def checked(records: list[Record], workers: int, description: str) -> Iterator[Record]:
    """Read and decode every image; a record that cannot be read comes back with its `fault`."""
    with ThreadPoolExecutor(workers) as pool:
        yield from progress(pool.map(_check, records), total=len(records), description=description, unit="image")


def write_index(
    records: Iterable[Record], path: Path, root: Path | None, label_names: tuple[str, ...]
) -> tuple[int, int]:
    """Write the index; returns how many images are readable, and how many are left out."""
    rows = [
        {
            "key": r.key,
            "path": None if r.path is None else str(r.path if root is None else r.path.relative_to(root)),
            "bytes": r.data,
            "label": r.label,
            "caption": r.caption,
            "digest": r.digest,
            "fault": r.fault,
        }
        for r in records
    ]
    metadata = {LABELS_KEY: json.dumps(label_names).encode()}
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA.with_metadata(metadata)), path, compression="zstd")
    skipped = sum(row["fault"] is not None for row in rows)
    return len(rows) - skipped, skipped


def _check(record: Record) -> Record:
    try:
        data = record.data if record.path is None else record.path.read_bytes()
        assert data is not None
        decode(data)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return replace(record, fault=f"{type(error).__name__}: {error}".replace(str(record.path), record.key))
    return replace(record, digest=_digest(data))


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _split_folders(root: Path) -> dict[str, Path]:
    found = {}
    for split, names in {"train": TRAIN_NAMES, "val": VAL_NAMES}.items():
        for name in names:
            if split not in found and (root / name).is_dir():
                found[split] = root / name
    return found if "train" in found else {}


def _labelled_files(folder: Path) -> list[Record]:
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not files:
        raise UserError(
            f"There is no image below '{folder}' (looked for {', '.join(sorted(SUFFIXES)[:6])}, ...). "
            "Check `images.path` in params.yaml."
        )
    records = [Record(key=str(file.relative_to(folder)), path=file) for file in files]
    numbers = {name: number for number, name in enumerate(label_names_of(records))}
    return [replace(record, label=numbers.get(_class_of(record))) for record in records]


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
    schema = pq.read_schema(file)
    image = schema.field("image").type if "image" in schema.names else None
    if image is None or not (pa.types.is_struct(image) and image.get_field_index("bytes") >= 0):
        raise UserError(
            f"'{file}' should have a column `image` that is a struct with the field `bytes`; "
            f"found the columns {', '.join(schema.names)}."
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
            yield Record(key=f"{file.stem}/{row:08d}", data=item["image"]["bytes"], label=item.get("label"))
            row += 1


def _shuffled(records: list[Record], seed: int, split: str) -> list[Record]:
    """The records in an order that depends on their keys, the seed and the split's name alone."""
    stream = int.from_bytes(hashlib.blake2b(split.encode(), digest_size=4).digest())
    ordered = sorted(records, key=lambda record: record.key)
    return [ordered[i] for i in np.random.default_rng([seed, stream]).permutation(len(ordered))]
