"""Activation stores: chunked Zarr arrays [image, token, channel] whose chunk files are memory-mapped directly.

Format: docs/format.md (normative). Written by stage `extract`, read by `train`, `encode` and `measure`.
A chunk file is the raw little-endian C-order buffer plus its CRC32C (4 bytes): any Zarr reader opens the array,
and `np.memmap` reads random images without decoding. A whole file is a finished chunk.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from usae.activations.store.files import Fault, Sealed
from usae.activations.store.metadata import check_description, differences, metadata
from usae.activations.store.moments import Moments, NativeMoments
from usae.common.errors import UserError
from usae.common.files.sealed import TRAILER, checksum, trailer, write_sealed
from usae.common.files.whole import PARTIAL, write_whole
from usae.common.types import Array

SCHEMA_VERSION = 1
MOMENT_BYTES = 2 * 8  # a mean and a sum of squared deviations, float64
NATIVE_GRID = "own_grid"  # key in the `config` of stores of resampled tokens: rows and columns of the layer's grid


@dataclass(frozen=True)
class ActivationStore:
    """One array on disk; `chunk(j)` is a read-only memory map.

    images, tokens, width: the array's shape. chunk_images: images per chunk file. attributes: what it holds.
    """

    path: Path
    images: int
    tokens: int
    width: int
    chunk_images: int
    dtype: np.dtype[Any]
    attributes: dict[str, Any] = field(hash=False)

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
            UserError: a store of something else is there already; every difference is named.
        """
        described = metadata(shape, chunk_images, dtype, {"usae_schema": SCHEMA_VERSION, **attributes})
        if not (path / "zarr.json").is_file():
            write_whole(path / "zarr.json", described)
        wanted = json.loads(described)
        check_description(wanted)
        try:
            store = cls.open(path)
        except UserError as error:
            remedy = f"`rm {path / 'zarr.json'}`, then run the same command again: it is written anew."
            raise UserError(f"{error} {remedy}") from error
        if faults := differences(store._contents(), cls._parsed(path, wanted)._contents()):
            raise UserError.listing(
                f"The store {path} holds something else than its name says. Move it away or remove it "
                f"(rm -r {path}), then run the same command again:",
                faults,
            )
        for partial in path.rglob(f"*{PARTIAL}"):
            partial.unlink(missing_ok=True)
        return store

    @classmethod
    def open(cls, path: Path) -> "ActivationStore":
        """The store at `path`, read from its metadata.

        Raises:
            UserError: there is none, or it is not one of ours.
        """
        file = path / "zarr.json"
        if not file.is_file():
            raise UserError(f"There is no activation store at {path}.")
        try:
            meta = json.loads(file.read_bytes())
        except ValueError as error:
            raise UserError(f"{file} is damaged, it is not JSON ({error}).") from error
        try:
            check_description(meta)
            codecs, dimensions = [codec["name"] for codec in meta.get("codecs", [])], len(meta.get("shape", ()))
            if codecs != ["bytes", "crc32c"] or dimensions != 3:
                found = f"{', '.join(codecs)} and {dimensions}"
                raise ValueError(f"expected codecs bytes, crc32c and three dimensions, found {found}")
            return cls._parsed(path, meta)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is not an activation store: {error}. See docs/format.md.") from error

    @property
    def chunks(self) -> int:
        """How many chunk files the store has when finished."""
        return -(-self.images // self.chunk_images)

    @property
    def chunk_bytes(self) -> int:
        """Size of a chunk file without its trailer."""
        return self.chunk_images * self.tokens * self.width * self.dtype.itemsize

    @property
    def bytes_to_come(self) -> int:
        """What is still to be written of them."""
        return sum(self._file_bytes(chunk) for chunk in range(self.chunks) if not self.done(chunk))

    @property
    def resampled(self) -> bool:
        """Whether the layer's own grid is not the common one."""
        return NATIVE_GRID in self.attributes.get("config", {})

    @property
    def native_tokens(self) -> int:
        """Tokens of an image on the layer's own grid."""
        return math.prod(self.attributes["config"][NATIVE_GRID]) if self.resampled else self.tokens

    def span(self, chunk: int) -> range:
        """The images of a chunk."""
        return range(chunk * self.chunk_images, min((chunk + 1) * self.chunk_images, self.images))

    def chunk_path(self, chunk: int) -> Path:
        """The file of a chunk."""
        return self.path / "c" / str(chunk) / "0" / "0"

    def moments_path(self, chunk: int) -> Path:
        """The file of a chunk's moments."""
        return self.path / "moments" / f"{chunk}.f64"

    def native_moments_path(self, chunk: int) -> Path:
        """The file of the native tokens' moments, where tokens are `resampled`."""
        return self.path / "before" / f"{chunk}.f64"

    def files(self, chunk: int) -> list[Sealed]:
        """Every file of a chunk, in the order of writing."""
        native = [self._native_moments_file(chunk)] if self.resampled else []
        return [*native, self._moments_file(chunk), self._chunk_file(chunk)]

    def done(self, chunk: int) -> bool:
        """Whether all files of a chunk are there, whole."""
        return all(file.whole for file in self.files(chunk))

    def write(self, chunk: int, activations: np.ndarray, native_moments: NativeMoments | None = None) -> None:
        """Write the activations [images of the chunk, token, channel]; the chunk's file appears last, whole.

        native_moments: those before resampling, where tokens are `resampled`.

        Raises:
            UserError: the disk is full; what was written before is kept.
        """
        padded = np.full((self.chunk_images, self.tokens, self.width), np.nan, self.dtype)
        padded[: len(activations)] = activations
        owner = checksum(padded) ^ chunk
        if native_moments is not None:
            write_sealed(self.native_moments_path(chunk), native_moments.packed(), owner)
        moments = Moments.of(padded[: len(activations)].reshape(-1, self.width))
        write_sealed(self.moments_path(chunk), np.stack([moments.mean, moments.m2]).astype("<f8"), owner)
        write_sealed(self.chunk_path(chunk), padded)

    def chunk(self, chunk: int) -> np.ndarray:
        """The activations of a chunk [images, token, channel], mapped read-only (never copied).

        Raises:
            UserError: the file is missing or cut short.
        """
        path = self._sound(self._chunk_file(chunk), deep=False)
        mapped = np.memmap(path, self.dtype, "r", shape=(self.chunk_images, self.tokens, self.width))
        return mapped[: len(self.span(chunk))]

    def take(self, images: Array | range) -> np.ndarray:
        """The activations of increasing images [images, token, channel], from however many chunks they lie in.

        Consecutive images of one chunk stay mapped (never copied); others are copied.

        Raises:
            ValueError: there are none, or they do not increase.
            UserError: a chunk's file is missing or cut short.
        """
        wanted = np.asarray(images)
        if not len(wanted) or (np.diff(wanted) <= 0).any():
            raise ValueError(f"The images to take should increase, found {wanted}.")
        chunks = wanted // self.chunk_images
        taken = [self._take(int(chunk), wanted[chunks == chunk]) for chunk in np.unique(chunks)]
        return taken[0] if len(taken) == 1 else np.concatenate(taken)

    def moments(self, chunk: int) -> Moments:
        """Channel moments of a chunk, as computed when it was written.

        Raises:
            UserError: their file is missing, cut short, does not match its checksum, or is another chunk's.
        """
        mean, m2 = self._values(self._moments_file(chunk)).reshape(2, self.width)
        return Moments(len(self.span(chunk)) * self.tokens, mean, m2)

    def native_moments(self, chunk: int) -> NativeMoments:
        """Moments of a chunk before resampling, where tokens are `resampled` (raises as `moments`)."""
        values = self._values(self._native_moments_file(chunk))
        return NativeMoments.unpacked(values, self.width, self.native_tokens)

    def checksum(self, chunk: int) -> str:
        """The CRC32C in the chunk's trailer, 8 hex digits; reads 4 bytes."""
        return trailer(self.chunk_path(chunk))

    def faults(self, *, deep: bool = False) -> list[Fault]:
        """All that is wrong: missing or short files; with `deep`, also contents that miss their checksum."""
        return [fault for chunk in range(self.chunks) for fault in self.check(chunk, deep=deep)]

    def check(self, chunk: int, *, deep: bool = False) -> list[Fault]:
        """The faults of one chunk's files (see `faults`)."""
        *moments, activations = self.files(chunk)
        fault = activations.fault(deep=deep)
        deep = deep and fault is None  # what a damaged chunk's moments should be is not known
        faults = [fault, *(file.fault(deep=deep) for file in reversed(moments))]
        return [fault for fault in faults if fault is not None]

    def refuse_foreign_moments(self) -> None:
        """See that the moments are those of the chunks that are there; reads no activation.

        Raises:
            UserError: some are damaged, or of another chunk; every one is listed.
        """
        files = [file for chunk in range(self.chunks) for file in self.files(chunk)[:-1]]
        if faults := [str(fault) for file in files if (fault := file.fault(deep=True))]:
            raise UserError.listing(
                f"The store {self.path} is damaged. Run `usae store verify --repair {self.path}`, then the same "
                "command again: only these chunks are computed anew.",
                faults,
            )

    def _take(self, chunk: int, images: Array) -> np.ndarray:
        rows, activations = images - self.span(chunk).start, self.chunk(chunk)
        consecutive = rows[-1] - rows[0] == len(rows) - 1
        return activations[rows[0] : rows[-1] + 1] if consecutive else activations[rows]

    @classmethod
    def _parsed(cls, path: Path, meta: dict[str, Any]) -> "ActivationStore":
        chunk = meta["chunk_grid"]["configuration"]["chunk_shape"][0]
        dtype = np.dtype(meta["data_type"]).newbyteorder("<")
        images, tokens, width = meta["shape"]
        store = cls(path, images, tokens, width, chunk, dtype, meta.get("attributes", {}))
        if not all(isinstance(size, int) and size > 0 for size in (images, tokens, width, chunk)):
            raise ValueError(f"sizes should be positive, found {meta['shape']} in chunks of {chunk} images")
        if not isinstance(store.attributes.get("config", {}), dict):
            raise ValueError("its attribute `config` should be a mapping")
        return store

    def _contents(self) -> dict[str, Any]:
        """What makes a store this store and no other."""
        shape = {"shape": [self.images, self.tokens, self.width], "images per chunk": self.chunk_images}
        return {**shape, "type": str(self.dtype), **self.attributes, **self.attributes.get("config", {})}

    def _chunk_file(self, chunk: int) -> Sealed:
        return Sealed(f"Chunk {chunk}", self.chunk_path(chunk), self.chunk_bytes)

    def _moments_file(self, chunk: int) -> Sealed:
        name = f"The file of chunk {chunk}'s moments"
        return Sealed(name, self.moments_path(chunk), MOMENT_BYTES * self.width, self.chunk_path(chunk), chunk)

    def _native_moments_file(self, chunk: int) -> Sealed:
        size = MOMENT_BYTES * (self.width + len(self.span(chunk)))
        name = f"The file of chunk {chunk}'s moments before resampling"
        return Sealed(name, self.native_moments_path(chunk), size, self.chunk_path(chunk), chunk)

    def _sound(self, file: Sealed, *, deep: bool) -> Path:
        if fault := file.fault(deep=deep):
            command = f"usae store verify --repair {self.path}"
            raise UserError(f"{fault} `{command}` lists all faults and mends them.")
        return file.path

    def _values(self, file: Sealed) -> np.ndarray:
        """The contents of a file of moments, float64."""
        return np.fromfile(self._sound(file, deep=True), "<f8", count=file.size // 8)

    def _file_bytes(self, chunk: int) -> int:
        return sum(file.size + TRAILER for file in self.files(chunk))
