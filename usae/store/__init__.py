"""Activation stores: the chunked Zarr arrays between stage `extract` and everything that reads activations.

`python -m usae.store list|verify|gc` looks after them on disk (docs/scale.md); docs/format.md is the format.
"""

from usae.store.arrays import ActivationStore
from usae.store.files import TRAILER, Fault, size_text, write_sealed
from usae.store.moments import Moments
from usae.store.planning import check_room, chunk_images_for, store_root

__all__ = [
    "TRAILER",
    "ActivationStore",
    "Fault",
    "Moments",
    "check_room",
    "chunk_images_for",
    "size_text",
    "store_root",
    "write_sealed",
]
