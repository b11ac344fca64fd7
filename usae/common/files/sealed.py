"""Sealed files end in the CRC32C of what precedes it, little-endian, as Zarr's codec `crc32c` writes it.

One that belongs to another (moments to their chunk) has it exclusive-or the other's and the other's number: it
fits that file alone, in that place alone.
"""

import os
import struct
from pathlib import Path

import google_crc32c
import numpy as np

from usae.common.files.whole import write_whole

TRAILER = 4  # bytes of CRC32C behind the contents


def write_sealed(path: Path, values: np.ndarray, owner: int = 0) -> None:
    """Write the buffer of `values`, in C order, and its checksum (see `write_whole`).

    owner: checksum of the file that this one belongs to, exclusive-or its number.
    """
    raw = _bytes_of(values)
    write_whole(path, raw.data, struct.pack("<I", google_crc32c.value(raw) ^ owner))


def checksum(values: np.ndarray) -> int:
    """The CRC32C of the buffer of `values`, in C order."""
    return int(google_crc32c.value(_bytes_of(values)))


def is_sealed(path: Path, owner: Path | None = None, number: int = 0) -> bool:
    """Whether the contents of a sealed file match its checksum; of one with an `owner`, as its or as nobody's.

    number: the owner's. Files of nobody are what earlier versions wrote. Where the owner is gone, there is nothing
    to compare with.
    """
    whole = np.fromfile(path, np.uint8)
    whole.flags.writeable = False
    if len(whole) < TRAILER:
        return False
    difference = int(google_crc32c.value(whole[:-TRAILER])) ^ int(whole[-TRAILER:].view("<u4")[0])
    if difference == 0 or owner is None:
        return difference == 0
    there = owner.is_file() and owner.stat().st_size >= TRAILER
    return not there or difference == int(trailer(owner), 16) ^ number


def trailer(path: Path) -> str:
    """The checksum that a sealed file carries, 8 hex digits; reads 4 bytes."""
    with path.open("rb") as file:
        file.seek(-TRAILER, os.SEEK_END)
        return f"{struct.unpack('<I', file.read(TRAILER))[0]:08x}"


def _bytes_of(values: np.ndarray) -> np.ndarray:
    raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    raw.flags.writeable = False  # google_crc32c takes nothing else
    return raw
