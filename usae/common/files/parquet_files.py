"""Parquet that carries a checksum of its own, where no reader looks: in 8 bytes between the pages and the footer.

They are MARK and the CRC32C, little-endian, of everything that precedes them and everything that follows.
"""

import io
import struct
from pathlib import Path

import google_crc32c
import pyarrow as pa
import pyarrow.parquet as pq

from usae.common.errors import UserError
from usae.common.files.whole import write_output

MARK = b"CRC3"
SEAL = len(MARK) + 4  # bytes
END = 8  # bytes behind the footer: its length, and Parquet's own mark


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write `table`, whole or not at all; the same table gives the same bytes."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    raw = buffer.getvalue()
    footer = _footer(raw)
    pages, rest = raw[:footer], raw[footer:]
    write_output(path, pages, MARK, _checksum(pages, rest), rest)


def read_parquet(path: Path, command: str) -> pa.Table:
    """The table at `path`; files of others carry no such checksum, and none is asked for.

    command: makes the file anew.

    Raises:
        UserError: it is not what was written.
    """
    try:
        raw = path.read_bytes()
        footer = _footer(raw)
        pages, seal, rest = raw[: footer - SEAL], raw[footer - SEAL : footer], raw[footer:]
        if seal.startswith(MARK) and seal[len(MARK) :] != _checksum(pages, rest):
            raise ValueError("it does not match its checksum")
        return pq.read_table(pa.BufferReader(raw))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(
            f"{path} is damaged ({str(error).splitlines()[0]}). `dvc checkout {path}` brings back what was "
            f"written; where that is gone, `{command}` makes it anew."
        ) from error


def _footer(raw: bytes) -> int:
    """Where the footer starts."""
    return len(raw) - END - int.from_bytes(raw[-END : -END // 2], "little")


def _checksum(pages: bytes, rest: bytes) -> bytes:
    return struct.pack("<I", google_crc32c.extend(google_crc32c.value(pages), rest))
