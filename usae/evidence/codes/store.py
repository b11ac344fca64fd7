"""Sparse codes on disk: for every token the k concepts it switches on, and how strongly (paper eq. 1 and 3).

Stage `encode` writes one folder per model, `data/codes/<split>/<model>`, with two Zarr v3 arrays of shape
[image, token, k]: `indices` (uint16, or uint32 above 65 536 concepts) and `values` (float16, 0 in unused
slots). Stages `measure` and `report` read them, chunk by chunk, with the models side by side. Every chunk ends in
its CRC32C; the group's attributes say what it is, and are themselves covered by a checksum.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from usae.common.errors import UserError
from usae.common.files.json_files import CHECKSUM, json_checksum
from usae.common.files.sealed import trailer
from usae.common.files.whole import below
from usae.common.types import Array

FLOAT16_MAX = float(np.finfo(np.float16).max)
UINT16_CONCEPTS = 2**16
ATTRIBUTES = ("model", "sae", "concepts", "k", "grid")
CHUNKS = "chunks"  # attribute: the checksums of the chunks of each array
DAMAGED = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
)  # Zarr, its codecs


@dataclass(frozen=True)
class CodeChunk:
    """The codes of some images: `images` (b,) are their rows in the image index.

    `indices` (b, t, k) are unsigned integers and `values` (b, t, k) float32; within a token every positive
    value has an index of its own, unused slots have the value 0 and any index.
    """

    images: Array
    indices: Array
    values: Array

    @property
    def tokens(self) -> int:
        """Number of tokens in the chunk, images times tokens per image."""
        return int(self.indices.shape[0] * self.indices.shape[1])


class CodeStore:
    """The codes of one model on one split. Open with `open`, or start a new one with `create`."""

    def __init__(self, path: Path, group: zarr.Group) -> None:
        self.path, self._group = path, group
        self._indices = _array(group, "indices", path)
        self._values = _array(group, "values", path)
        self._written: set[int] = set()
        self.images, self.tokens, self.k = (int(size) for size in self._indices.shape)
        self.chunk_images = int(self._indices.chunks[0])
        attributes = dict(group.attrs)
        self.model = str(attributes["model"])
        self.sae = str(attributes["sae"])
        self.concepts = int(str(attributes["concepts"]))
        self.grid = int(str(attributes["grid"]))

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        model: str,
        sae: str,
        images: int,
        grid: int,
        k: int,
        concepts: int,
        chunk_images: int,
    ) -> Self:
        """Start an empty store at `path`, in place of whatever is there; `grid` squared tokens per image."""
        attributes = {"model": model, "sae": sae, "concepts": concepts, "k": k, "grid": grid}
        path.parent.mkdir(parents=True, exist_ok=True)
        index_type = "uint16" if concepts <= UINT16_CONCEPTS else "uint32"
        with below(path):
            group = zarr.create_group(path, overwrite=True, attributes=attributes)
            for name, dtype in (("indices", index_type), ("values", "float16")):
                group.create_array(
                    name,
                    shape=(images, grid * grid, k),
                    chunks=(chunk_images, grid * grid, k),
                    dtype=dtype,
                    dimension_names=("image", "token", "k"),
                    compressors=[ZstdCodec(level=0), Crc32cCodec()],
                )
        return cls(path, group)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a finished store; UserError when it is absent, damaged, partly written, or no code store."""
        if not (path / "zarr.json").is_file():
            raise UserError(f"Expected sparse codes in {path}, found none. Run `dvc repro encode`.")
        with _naming(path):
            return cls._opened(path)

    @classmethod
    def _opened(cls, path: Path) -> Self:
        group = zarr.open_group(path, mode="r")
        missing = [name for name in ATTRIBUTES if name not in group.attrs]
        if missing:
            raise UserError(
                f"The codes in {path} lack the attributes {', '.join(missing)}: something else wrote them."
                " Remove the folder and run `dvc repro encode`."
            )
        store = cls(path, group)
        store._refuse_unfinished()
        store._refuse_foreign()
        return store

    @property
    def chunks(self) -> int:
        """Number of chunks; all but the last hold `chunk_images` images."""
        return -(-self.images // self.chunk_images)

    def write(self, chunk: int, indices: Array, values: Array) -> None:
        """Write chunk `chunk` from (b, t, k) arrays; UserError for codes that the format cannot hold."""
        start, stop = self._bounds(chunk)
        expected = (stop - start, self.tokens, self.k)
        faults = _faults(indices, values, expected, self.concepts)
        if faults:
            raise UserError.listing(f"Chunk {chunk} of the codes in {self.path} was refused:", faults)
        with below(self.path):
            self._indices[start:stop] = indices.astype(self._indices.dtype)
            self._values[start:stop] = values.astype(np.float16)
            self._written.add(chunk)
            if len(self._written) == self.chunks:
                self._group.attrs.put({**self._group.attrs, **self._seal()})

    def chunk(self, chunk: int) -> CodeChunk:
        """Read chunk `chunk`; the values come back as float32."""
        start, stop = self._bounds(chunk)
        with _naming(self.path):
            indices = np.asarray(self._indices[start:stop])  # (images, tokens, k)
            values = np.asarray(self._values[start:stop]).astype(np.float32)  # (images, tokens, k)
        return CodeChunk(np.arange(start, stop), indices, values)

    def __iter__(self) -> Iterator[CodeChunk]:
        """All chunks in order."""
        return (self.chunk(chunk) for chunk in range(self.chunks))

    def read(self, images: Sequence[int] | Array) -> CodeChunk:
        """Read chosen images, in the order given."""
        rows = np.asarray(images, dtype=np.int64)  # (images,)
        outside = rows[(rows < 0) | (rows >= self.images)]
        if outside.size:
            missing = ", ".join(map(str, outside.tolist()))
            raise UserError(f"The codes in {self.path} hold images 0 to {self.images - 1}, not {missing}.")
        with _naming(self.path):
            indices = np.asarray(self._indices.get_orthogonal_selection((rows,)))  # (images, tokens, k)
            values = np.asarray(self._values.get_orthogonal_selection((rows,))).astype(np.float32)
        return CodeChunk(rows, indices, values)

    def _bounds(self, chunk: int) -> tuple[int, int]:
        if not 0 <= chunk < self.chunks:
            raise UserError(f"The codes in {self.path} have chunks 0 to {self.chunks - 1}, not {chunk}.")
        start = chunk * self.chunk_images
        return start, min(start + self.chunk_images, self.images)

    def _refuse_unfinished(self) -> None:
        written = min(self._indices.nchunks_initialized, self._values.nchunks_initialized)
        if written != self.chunks:
            raise UserError(
                f"The codes in {self.path} are unfinished: expected {self.chunks} chunks, found {written}."
                " Run `dvc repro -f -s encode` to write them again."
            )

    def _seal(self) -> dict[str, Any]:
        """The checksums of the chunks, and that of everything the attributes and the arrays' shapes say."""
        arrays = {"indices": self._indices, "values": self._values}
        said = {name: self._group.attrs[name] for name in ATTRIBUTES}
        chunks = {
            name: [trailer(self.path / name / "c" / str(chunk) / "0" / "0") for chunk in range(self.chunks)]
            for name in arrays
        }
        shapes = [[str(array.dtype), list(array.shape), list(array.chunks)] for array in arrays.values()]
        return {CHUNKS: chunks, CHECKSUM: json_checksum({**said, CHUNKS: chunks, "arrays": shapes})}

    def _refuse_foreign(self) -> None:
        """The chunks and attributes must be those that were written; codes of earlier versions do not say."""
        there = {key: self._group.attrs[key] for key in (CHUNKS, CHECKSUM) if key in self._group.attrs}
        if there and there != self._seal():
            raise ValueError("its chunks or attributes are not those that were written")


def open_codes(folder: Path, models: Sequence[str]) -> dict[str, CodeStore]:
    """Open the codes of all `models` in one split folder, e.g. `data/codes/val`, in the order of `models`.

    Raises UserError, listing every fault, when stores are missing or disagree on images, tokens, chunks,
    concepts or the SAE that wrote them.
    """
    stores: dict[str, CodeStore] = {}
    faults: list[str] = []
    for model in models:
        try:
            stores[model] = CodeStore.open(folder / model)
        except UserError as fault:
            faults.append(str(fault))
    faults += _disagreements(stores)
    if faults:
        raise UserError.listing(f"The codes in {folder} cannot be used together:", faults)
    return stores


def aligned_chunks(
    stores: Mapping[str, CodeStore], chunks: range | None = None
) -> Iterator[tuple[CodeChunk, ...]]:
    """Chunk by chunk, the codes of all models for the same images, in the order of `stores`; None: all chunks."""
    if chunks is None:
        return zip(*stores.values(), strict=True)
    return (tuple(store.chunk(chunk) for store in stores.values()) for chunk in chunks)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """What Zarr raises of damaged codes, as one sentence."""
    try:
        yield
    except DAMAGED as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"The codes in {path} are damaged ({reason}). Run `dvc repro -f -s encode` to write them again."
        ) from error


def _array(group: zarr.Group, name: str, path: Path) -> zarr.Array[Any]:
    member = group.get(name)
    if not isinstance(member, zarr.Array):
        raise UserError(f"Expected the array `{name}` in {path}, found none. Run `dvc repro -f -s encode`.")
    return member.with_config({"write_empty_chunks": True})


def _disagreements(stores: Mapping[str, CodeStore]) -> list[str]:
    faults = []
    for field in ("images", "tokens", "chunk_images", "concepts", "sae"):
        values = {model: getattr(store, field) for model, store in stores.items()}
        if len(set(values.values())) > 1:
            listing = ", ".join(f"{model}: {value}" for model, value in values.items())
            faults.append(f"The models disagree on `{field}` ({listing}). Run `dvc repro -f -s encode`.")
    for model, store in stores.items():
        if store.model != model:
            faults.append(f"The folder {store.path} holds the codes of `{store.model}`, expected `{model}`.")
    return faults


def _faults(indices: Array, values: Array, expected: tuple[int, ...], concepts: int) -> list[str]:
    if indices.shape != expected or values.shape != expected:
        return [f"Expected the shape {expected}, found indices {indices.shape} and values {values.shape}."]
    faults = []
    if indices.size and (indices.min() < 0 or indices.max() >= concepts):
        limits = f"{indices.min()} to {indices.max()}"
        faults.append(f"Expected concepts 0 to {concepts - 1}, found indices {limits}.")
    if not np.isfinite(values).all():
        faults.append(
            "Expected finite codes, found NaN or infinity: the SAE has diverged. Lower `train.learning_rate`."
        )
    elif values.size and (values.min() < 0 or values.max() > FLOAT16_MAX):
        limits = f"{values.min():.6g} to {values.max():.6g}"
        faults.append(f"Expected codes from 0 to {FLOAT16_MAX:.0f} (float16), found {limits}.")
    return faults
