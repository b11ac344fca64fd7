"""Files that are whole or absent and carry their own checksum: what activation stores are made of.

Any number of processes may write the same path. Each writes a partial file of its own and renames it; a sealed
file ends in the CRC32C of what precedes it, little-endian, as Zarr's codec `crc32c` writes it.
"""

import errno
import os
import shutil
import struct
import uuid
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np
from tqdm import tqdm

from usae.common.errors import UserError

TRAILER = 4  # bytes of CRC32C behind the contents
PARTIAL = ".partial"
ATTEMPTS = 5  # at one file; another process that starts on the same store sweeps partial files away
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class Fault:
    """What is wrong, and the file that has to go before `extract` writes it anew (None: it is gone already)."""

    text: str
    damaged: Path | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Sealed:
    """A sealed file: what sentences call it, where it lies, how many bytes its contents have."""

    name: str
    path: Path
    size: int

    @property
    def whole(self) -> bool:
        """Whether a file of the right size is there; its contents are not read."""
        try:
            return self.path.stat().st_size == self.size + TRAILER
        except (FileNotFoundError, NotADirectoryError):
            return False

    def fault(self, *, deep: bool) -> Fault | None:
        """A wrong size; with `deep`, also contents that miss their checksum."""
        if not self.whole:
            damaged = self.path if self.path.is_file() else None
            actual = f"{self.path.stat().st_size} bytes" if damaged else "no file"
            text = f"{self.name} ({self.path}) should have {self.size + TRAILER} bytes, found {actual}."
            return Fault(text, damaged)
        if deep and not is_sealed(self.path):
            return Fault(f"{self.name} ({self.path}) does not match its checksum.", self.path)
        return None


def write_whole(path: Path, *contents: bytes | memoryview) -> None:
    """Write `contents`, one behind the other, so that `path` is there whole or not at all, also after a power cut.

    Raises:
        UserError: there is no room for it; nothing is left behind.
    """
    for _ in range(ATTEMPTS):
        partial = _partial(path, contents)
        try:
            partial.replace(path)
        except FileNotFoundError:  # swept away by another process: write it again
            continue
        return
    raise UserError(f"{path} could not be written: its partial file disappeared {ATTEMPTS} times in a row.")


def write_sealed(path: Path, values: np.ndarray) -> None:
    """Write the buffer of `values`, in C order, and its checksum (see `write_whole`)."""
    raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    raw.flags.writeable = False  # google_crc32c takes nothing else
    write_whole(path, raw.data, struct.pack("<I", google_crc32c.value(raw)))


def is_sealed(path: Path) -> bool:
    """Whether the contents of a sealed file match its checksum."""
    whole = np.fromfile(path, np.uint8)
    whole.flags.writeable = False
    return len(whole) >= TRAILER and google_crc32c.value(whole[:-TRAILER]) == int(whole[-TRAILER:].view("<u4")[0])


def trailer(path: Path) -> str:
    """The checksum that a sealed file carries, 8 hex digits; reads 4 bytes."""
    with path.open("rb") as file:
        file.seek(-TRAILER, os.SEEK_END)
        return f"{struct.unpack('<I', file.read(TRAILER))[0]:08x}"


def free_bytes(path: Path) -> int:
    """Room left on the disk of `path`, which need not exist yet."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def size_text(size: int) -> str:
    """38535168 -> '38.5MB'."""
    return tqdm.format_sizeof(size, "B")


def _partial(path: Path, contents: tuple[bytes | memoryview, ...]) -> Path:
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            for content in contents:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        partial.unlink(missing_ok=True)
        if error.errno not in NO_ROOM:
            raise
        raise UserError(
            f"{path} could not be written ({error.strerror}): it needs {size_text(sum(map(len, contents)))}, "
            f"{size_text(free_bytes(path))} are free there. Make room, or move the stores (`runtime.store` or "
            "$USAE_STORE), and run the same command again: what is finished is kept."
        ) from error
    return partial
