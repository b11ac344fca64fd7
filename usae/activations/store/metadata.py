"""What `zarr.json` of an activation store says, and in what two of them differ."""

import json
from typing import Any

import zarr
from zarr.codecs import Crc32cCodec

from usae.common.files.json_files import CHECKSUM, json_checksum


def metadata(shape: tuple[int, int, int], chunk_images: int, dtype: str, attributes: dict[str, Any]) -> bytes:
    """What Zarr writes for such an array, without touching the disk; its checksum is one of the attributes."""
    files: dict[str, Any] = {}
    zarr.create_array(
        store=files,
        shape=shape,
        chunks=(min(chunk_images, shape[0]), *shape[1:]),
        dtype=dtype,
        compressors=[Crc32cCodec()],
        filters=None,
        fill_value=float("nan"),
        dimension_names=("image", "token", "channel"),
        config={"write_empty_chunks": True},
        attributes=attributes,
    )
    described = json.loads(files["zarr.json"].to_bytes())
    described["attributes"][CHECKSUM] = json_checksum(described)
    return json.dumps(described, indent=2).encode()


def check_description(described: dict[str, Any]) -> None:
    """Take the checksum out of what `metadata` gave; stores of earlier versions have none.

    Raises:
        ValueError: it is not of what is described.
    """
    expected = described.get("attributes", {}).pop(CHECKSUM, None)
    if expected is not None and expected != (actual := json_checksum(described)):
        raise ValueError(f"its description has checksum {actual}, it says {expected}")


def differences(actual: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Every key in which two descriptions differ; a nested `config` is given by its keys alone."""
    keys = [key for key in {**wanted, **actual} if key != "config"]
    return [
        f"`{key}` should be {wanted.get(key)}, found {actual.get(key)}"
        for key in keys
        if wanted.get(key) != actual.get(key)
    ]
