"""The image index: which images there are, in which order, and which could not be read.

Written by stage `images` as `data/images/{train,val}.parquet`. Row i of the readable images is image i of every
activation store. Folders are referenced by path, Parquet and generated images travel inside the index.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from PIL import Image

from usae.common.errors import UserError
from usae.common.files.parquet_files import read_parquet, write_parquet
from usae.common.runtime.progress import progress
from usae.images.pixels.decoding import BadImageError, decode

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

    frame: columns key, path, bytes, label, caption, digest. root: what `path` is relative to. whole: the digest of
    all images of the split, where these are its first ones.
    """

    frame: pd.DataFrame
    label_names: tuple[str, ...]
    root: Path | None = None
    whole: str | None = None

    @classmethod
    def load(cls, path: Path, root: Path | None = None) -> "ImageIndex":
        """The index at `path`; `root` is `images.path`.

        Raises:
            UserError: there is no index, or it is damaged.
        """
        if not path.is_file():
            raise UserError(f"There is no image index at {path}; run `dvc repro images` to write it.")
        table = read_parquet(path, "dvc repro -f -s images")
        if table.schema.names != SCHEMA.names:
            raise UserError(f"{path} is no image index; `dvc repro -f -s images` writes one.")
        frame = table.to_pandas()
        readable = frame[frame["fault"].isna()].reset_index(drop=True).astype({"label": "Int32"})
        names = json.loads((table.schema.metadata or {}).get(LABELS_KEY, b"[]"))
        return cls(readable, tuple(names), root)

    @classmethod
    def of(cls, records: Iterable[Record], root: Path) -> "ImageIndex":
        """An index that lies on no disk; labels are left out."""
        frame = pd.DataFrame(_rows(records, root))
        return cls(frame[frame["fault"].isna()].reset_index(drop=True), (), root)

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def digest(self) -> str:
        """Hex digest over keys, order and contents: equal exactly when the images are.

        Of the first n of a split: the digest of the split, and `[:n]`.
        """
        if self.whole is not None:
            return f"{self.whole}[:{len(self)}]"
        text = "\n".join(f"{key}\t{digest}" for key, digest in self.frame[["key", "digest"]].to_numpy())
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def first(self, images: int | None) -> "ImageIndex":
        """The first `images`; all, where there are no more or it is None."""
        if images is None or images >= len(self):
            return self
        return replace(self, frame=self.frame[:images], whole=self.digest)

    def open(self, image: int) -> Image.Image:
        """Image `image`, RGB, upright.

        Raises:
            UserError: it can no longer be read.
        """
        row = self.frame.iloc[image]
        try:
            return decode(self._contents(row))
        except (OSError, BadImageError) as error:
            raise UserError(
                f"Image {image} ('{row['key']}') was readable when the index was made and is not now: {error}. "
                "Restore it, or run `dvc repro -f images` to make the index without it."
            ) from error

    def _contents(self, row: "pd.Series[Any]") -> bytes:
        """What is decoded, of a file or in the index, if it is still what was indexed."""
        data: bytes | None = row["bytes"]
        where = "the index" if data is not None else f"'{(self.root or Path()) / row['path']}'"
        found = _read((self.root or Path()) / row["path"]) if data is None else data
        if row["digest"] != _digest(found):
            raise BadImageError(f"the contents of {where} have changed")
        return found


def load_splits(folder: Path, path: str | None) -> dict[str, ImageIndex]:
    """Both indexes in `folder`; `path` is `images.path`, below which images of a folder source lie."""
    return {
        split: ImageIndex.load(folder / f"{split}.parquet", None if path is None else Path(path))
        for split in ("train", "val")
    }


def checked(records: list[Record], workers: int, description: str) -> Iterator[Record]:
    """Read and decode every image; a record that cannot be read comes back with its `fault`."""
    with ThreadPoolExecutor(workers) as pool:
        yield from progress(pool.map(_check, records), total=len(records), description=description, unit="image")


def write_index(
    records: Iterable[Record], path: Path, root: Path | None, label_names: tuple[str, ...]
) -> tuple[int, int]:
    """Write the index; returns how many images are readable, and how many are left out."""
    rows = _rows(records, root)
    metadata = {LABELS_KEY: json.dumps(label_names).encode()}
    write_parquet(path, pa.Table.from_pylist(rows, SCHEMA.with_metadata(metadata)))
    skipped = sum(row["fault"] is not None for row in rows)
    return len(rows) - skipped, skipped


def _rows(records: Iterable[Record], root: Path | None) -> list[dict[str, object]]:
    return [
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


def _check(record: Record) -> Record:
    if record.fault is not None:
        return record
    try:
        data = record.data if record.path is None else _read(record.path)
        decode(data or b"")
    except OSError as error:
        return replace(record, fault=f"{type(error).__name__}: {error.strerror}")
    except BadImageError as error:
        return replace(record, fault=str(error))
    return replace(record, digest=_digest(data or b""))


def _read(path: Path) -> bytes:
    """The file's bytes; where its whole folder has gone, the file is not to blame.

    Raises:
        UserError: the folder has vanished.
        OSError: the file alone cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        if os.path.isdir(path.parent) and any(path.parent.iterdir()):
            raise
        raise UserError(
            f"The folder '{path.parent}' has gone or is empty, though '{path.name}' was listed in it. Was its "
            "disk unmounted, or the folder moved? Bring it back and run the same command again; what is finished "
            "is kept."
        ) from error


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()
