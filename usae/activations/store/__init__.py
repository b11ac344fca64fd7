"""Activation stores: the chunked Zarr arrays between stage `extract` and everything that reads activations.

`usae store list|verify|gc` looks after them on disk (docs/scale.md); docs/format.md is the format.
"""

from usae.activations.store.blocks import image_spans
from usae.activations.store.files import Fault
from usae.activations.store.location import check_room, chunk_images_for, store_root
from usae.activations.store.moments import Moments, NativeMoments
from usae.activations.store.store import ActivationStore

__all__ = [
    "ActivationStore",
    "Fault",
    "Moments",
    "NativeMoments",
    "check_room",
    "chunk_images_for",
    "image_spans",
    "store_root",
]
