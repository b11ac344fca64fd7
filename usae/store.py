"""Activation stores: chunked Zarr arrays [image, token, channel] whose chunk files are memory-mapped directly.

Format: docs/format.md (normative). Written by stage `extract`, read by `train`, `encode` and `measure`.
A chunk file is the raw little-endian C-order buffer plus its CRC32C (4 bytes): any Zarr reader opens the array,
and `np.memmap` reads random images without decoding. A whole file is a finished chunk.
"""

import json
import os
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from zarr.codecs import Crc32cCodec

from usae.errors import UserError

ROOT_VARIABLE = "USAE_STORE"
TRAILER = 4  # bytes of CRC32C behind each chunk
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations of each channel, float64; merged by Chan's formula.

    mean, m2: [d].
    """

    count: int
    mean: np.ndarray
    m2: np.ndarray

    @classmethod
    def none(cls, width: int) -> "Moments":
        """Moments of no rows: where merging starts."""
        return cls(0, np.zeros(width), np.zeros(width))

    @classmethod
    def of(cls, rows: np.ndarray) -> "Moments":
        """Moments of rows [n, d], shifted by the first row against cancellation."""
        shift = rows[0].astype(np.float64)
        centred = rows.astype(np.float64) - shift  # (n, d)
        mean = centred.mean(0)
        return cls(len(rows), shift + mean, np.square(centred - mean).sum(0))

    def merge(self, other: "Moments") -> "Moments":
        """Moments of both sets of rows together."""
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        return Moments(count, mean, self.m2 + other.m2 + delta**2 * (self.count * other.count / count))

    def scalar(self) -> tuple[float, float]:
        """One mean and one unbiased standard deviation over rows and channels (the paper's standardisation)."""
        total = self.count * len(self.mean)
        mean = float(self.mean.mean())
        square = float(self.m2.sum() + self.count * np.square(self.mean - mean).sum())
        return mean, (square / (total - 1)) ** 0.5


@dataclass(frozen=True)
class ActivationStore:
    """One array on disk; `chunk(j)` is a read-only memory map.

    images, tokens, width: the array's shape. chunk_images: images per chunk file.
    """

    path: Path
    images: int
    tokens: int
    width: int
    chunk_images: int
    dtype: np.dtype[Any]

    @classmethod
    def create(
        cls,
        path: Path,
        shape: tuple[int, int, int],
        chunk_images: int,
        dtype: str,
        attributes: dict[str, Any],
    ) -> "ActivationStore":
        """The store at `path`, new or as an interrupted run left it; `attributes` go into its metadata.

        Raises:
            UserError: another array is there already.
        """
        if not (path / "zarr.json").is_file():
            shutil.rmtree(path, ignore_errors=True)
            zarr.create_array(
                store=path,
                shape=shape,
                chunks=(min(chunk_images, shape[0]), *shape[1:]),
                dtype=dtype,
                compressors=[Crc32cCodec()],
                filters=None,
                fill_value=float("nan"),
                dimension_names=("image", "token", "channel"),
                config={"write_empty_chunks": True},
                attributes={"usae_schema": SCHEMA_VERSION, **attributes},
            )
        store = cls.open(path)
        if (store.images, store.tokens, store.width) != shape:
            raise UserError(
                f"The store {path} should be {shape} [image, token, channel], found "
                f"{(store.images, store.tokens, store.width)}; remove it: rm -r {path}"
            )
        for partial in path.rglob("*.partial"):
            partial.unlink()
        return store

    @classmethod
    def open(cls, path: Path) -> "ActivationStore":
        """The store at `path`, read from its metadata.

        Raises:
            UserError: there is none, or it is not one of ours.
        """
        if not (path / "zarr.json").is_file():
            raise UserError(f"There is no activation store at {path}.")
        meta = json.loads((path / "zarr.json").read_text())
        codecs = [codec["name"] for codec in meta.get("codecs", [])]
        if codecs != ["bytes", "crc32c"] or len(meta["shape"]) != 3:
            raise UserError(
                f"{path} is not an activation store: expected codecs bytes, crc32c and three dimensions, found "
                f"{', '.join(codecs)} and {len(meta['shape'])}. See docs/format.md."
            )
        images, tokens, width = meta["shape"]
        chunk = meta["chunk_grid"]["configuration"]["chunk_shape"][0]
        return cls(path, images, tokens, width, chunk, np.dtype(meta["data_type"]).newbyteorder("<"))

    @property
    def chunks(self) -> int:
        """How many chunk files the store has when finished."""
        return -(-self.images // self.chunk_images)

    @property
    def chunk_bytes(self) -> int:
        """Size of a chunk file without its trailer."""
        return self.chunk_images * self.tokens * self.width * self.dtype.itemsize

    def span(self, chunk: int) -> range:
        """The images of a chunk."""
        return range(chunk * self.chunk_images, min((chunk + 1) * self.chunk_images, self.images))

    def chunk_path(self, chunk: int) -> Path:
        """The file of a chunk."""
        return self.path / "c" / str(chunk) / "0" / "0"

    def done(self, chunk: int) -> bool:
        """Whether a chunk's file and moments are there, whole."""
        file = self.chunk_path(chunk)
        return (
            file.is_file()
            and file.stat().st_size == self.chunk_bytes + TRAILER
            and self._moments_path(chunk).is_file()
        )

    def write(self, chunk: int, activations: np.ndarray) -> None:
        """Write the activations [images of the chunk, token, channel]; the chunk's file appears last, whole."""
        padded = np.full((self.chunk_images, self.tokens, self.width), np.nan, self.dtype)
        padded[: len(activations)] = activations
        moments = Moments.of(padded[: len(activations)].reshape(-1, self.width))
        _replace(self._moments_path(chunk), np.stack([moments.mean, moments.m2]).tobytes())
        raw = padded.tobytes()
        _replace(self.chunk_path(chunk), raw + struct.pack("<I", google_crc32c.value(raw)))

    def chunk(self, chunk: int) -> np.ndarray:
        """The activations of a chunk [images, token, channel], mapped read-only (never copied).

        Raises:
            UserError: the file is missing or cut short.
        """
        file, shape = self.chunk_path(chunk), (self.chunk_images, self.tokens, self.width)
        if not file.is_file() or file.stat().st_size != self.chunk_bytes + TRAILER:
            raise UserError(self._fault(chunk) + f" Remove {self.path} and extract again.")
        mapped = np.memmap(file, self.dtype, "r", shape=shape)
        return mapped[: len(self.span(chunk))]

    def moments(self, chunk: int) -> Moments:
        """Channel moments of a chunk, as computed when it was written."""
        values = np.frombuffer(self._moments_path(chunk).read_bytes()).reshape(2, self.width)
        return Moments(len(self.span(chunk)) * self.tokens, values[0], values[1])

    def checksum(self, chunk: int) -> str:
        """The CRC32C in the chunk's trailer, 8 hex digits; reads 4 bytes."""
        with self.chunk_path(chunk).open("rb") as file:
            file.seek(self.chunk_bytes)
            return f"{struct.unpack('<I', file.read(TRAILER))[0]:08x}"

    def faults(self, *, deep: bool = False) -> list[str]:
        """What is wrong: missing or short chunks; with `deep`, also contents that miss their checksum."""
        found = []
        for chunk in range(self.chunks):
            if not self.done(chunk):
                found.append(self._fault(chunk))
            elif deep and google_crc32c.value(self.chunk_path(chunk).read_bytes()[:-TRAILER]) != int(
                self.checksum(chunk), 16
            ):
                found.append(f"Chunk {chunk} ({self.chunk_path(chunk)}) does not match its checksum.")
        return found

    def _fault(self, chunk: int) -> str:
        file = self.chunk_path(chunk)
        size = f"{file.stat().st_size} bytes" if file.is_file() else "no file"
        return f"Chunk {chunk} ({file}) should have {self.chunk_bytes + TRAILER} bytes, found {size}."

    def _moments_path(self, chunk: int) -> Path:
        return self.path / "moments" / f"{chunk}.f64"


def store_root(configured: str) -> Path:
    """Where stores live: $USAE_STORE, else `runtime.store`, relative to the main checkout.

    Queued and temporary experiments run in copies of the checkout; DVC names the main one in $DVC_ROOT.
    """
    return Path(os.environ.get("DVC_ROOT", ".")) / os.environ.get(ROOT_VARIABLE, configured)


def _replace(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that the file is there whole or not at all, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
