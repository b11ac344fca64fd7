"""Where stores and checkpoints lie below the store root, in how large chunks, and whether there is room."""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from usae.activations.store.store import ActivationStore
from usae.common.errors import UserError
from usae.common.files.whole import free_bytes, size_text

ROOT_VARIABLE = "USAE_STORE"
TRAINING = "training"  # folder below the root with what unfinished runs (training, maximisation) have kept
CHUNK_TARGET = 32e6  # bytes; the power of two of images next to it makes files of 16 to 64 MB


def store_root(configured: str) -> Path:
    """Where stores live: $USAE_STORE, unless it is empty, else `runtime.store`; relative to the main checkout.

    Queued and temporary experiments run in copies of the checkout; DVC names the main one in $DVC_ROOT.
    """
    root = os.environ.get(ROOT_VARIABLE) or configured
    return Path(os.environ.get("DVC_ROOT", ".")) / Path(root).expanduser()


def chunk_images_for(tokens: int, width: int, itemsize: int, images: int, wanted: int | None) -> int:
    """Images per chunk file: `wanted`, or (None) a power of two that makes files of 16 to 64 MB; at most `images`.

    An image of tokens * width values of `itemsize` bytes that is larger than that has a file of its own.
    """
    if wanted is None:
        wanted = 2 ** max(0, round(math.log2(CHUNK_TARGET / (tokens * width * itemsize))))
    return min(wanted, images)


def check_room(stores: Iterable[ActivationStore]) -> tuple[int, int]:
    """Bytes that are still to be written to `stores`, which lie on one disk, and bytes free there.

    Raises:
        UserError: there is not enough room; it says how much is needed and how much there is.
    """
    stores = list(stores)
    need = sum(store.bytes_to_come for store in stores)
    return need, check_free(need, stores[0].path.parent)


def check_free(need: int, root: Path) -> int:
    """Bytes free below `root`, where `need` of them are still to be written.

    Raises:
        UserError: there are fewer.
    """
    have = free_bytes(root.absolute())
    if need > have:
        raise UserError(
            f"There is no room for the activations: {size_text(need)} are still to be written below "
            f"{root}, {size_text(have)} are free there. Make room (`usae store gc`) "
            "or move the stores to a larger disk (`runtime.store` or $USAE_STORE)."
        )
    return have


def checkpoint_folder(root: Path, name: str, identity: Mapping[str, Any]) -> Path:
    """Where the run `name` of that configuration keeps its checkpoints, below the store root."""
    return root / TRAINING / f"{name}-{fingerprint(dict(identity))}"


def fingerprint(config: dict[str, Any]) -> str:
    """12 hex digits that name a configuration, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]
