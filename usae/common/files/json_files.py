"""JSON that carries a checksum of its own: manifests, and what stands beside weights.

The key `crc32c` is that of everything else in the file, as JSON with sorted keys: other spaces are the same file,
another digit is not.
"""

import json
from pathlib import Path
from typing import Any

import google_crc32c

from usae.common.files.whole import write_output

CHECKSUM = "crc32c"


def write_json(path: Path, values: dict[str, Any], indent: int = 2) -> None:
    """Write `values` and their checksum; the same values give the same bytes."""
    text = json.dumps({**values, CHECKSUM: json_checksum(values)}, indent=indent)
    write_output(path, f"{text}\n".encode())


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote; files of earlier versions have no checksum, and none is asked for.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no JSON, no mapping, or its values are not those that were written.
    """
    values = json.loads(path.read_bytes())
    if not isinstance(values, dict):
        raise ValueError(f"{path.name} should hold a mapping, found {type(values).__name__}")
    expected = values.pop(CHECKSUM, None)
    if expected is not None and expected != (actual := json_checksum(values)):
        raise ValueError(f"{path.name} has checksum {actual}, it says {expected}")
    return values


def json_checksum(values: dict[str, Any]) -> str:
    """8 hex digits: the CRC32C of plain values as JSON with sorted keys."""
    return f"{google_crc32c.value(json.dumps(values, sort_keys=True).encode()):08x}"
