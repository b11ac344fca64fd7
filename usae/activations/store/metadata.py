"""What `zarr.json` of an activation store says, and in what two of them differ."""

from typing import Any

import zarr
from zarr.codecs import Crc32cCodec


def metadata(shape: tuple[int, int, int], chunk_images: int, dtype: str, attributes: dict[str, Any]) -> bytes:
    """What Zarr writes for such an array, byte for byte, without touching the disk."""
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
    return bytes(files["zarr.json"].to_bytes())


def differences(actual: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Every key in which two descriptions differ; a nested `config` is given by its keys alone."""
    keys = [key for key in {**wanted, **actual} if key != "config"]
    return [
        f"`{key}` should be {wanted.get(key)}, found {actual.get(key)}"
        for key in keys
        if wanted.get(key) != actual.get(key)
    ]
