"""What lies below the store root, and which of it the manifests of this checkout name (`usae store`)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from usae.activations.store.manifests import SPLITS, Manifest
from usae.activations.store.store import ActivationStore
from usae.common.errors import UserError

NAME = re.compile(r"(?P<model>[a-z0-9][a-z0-9_-]*)-(?P<split>train|val)-[0-9a-f]{12}")
BUSY_SECONDS = 3600  # an unnamed store written to this recently may belong to a running extraction


@dataclass(frozen=True)
class Entry:
    """One store folder. finished: chunks. files: bytes. written, used: newest change, newest access of a chunk."""

    path: Path
    model: str
    split: str
    store: ActivationStore | None  # None: its metadata cannot be read
    finished: int
    files: int
    written: float
    used: float
    manifests: tuple[str, ...]

    @property
    def state(self) -> str:
        """In one phrase whether all chunks are there."""
        if self.store is None:
            return "unreadable"
        return "complete" if self.finished == self.store.chunks else f"{self.finished}/{self.store.chunks} chunks"


@dataclass(frozen=True)
class Unnamed:
    """Stores that no manifest names: those that may go, and those kept all the same, each with the reason."""

    removable: list[Entry]
    kept: list[tuple[Entry, str]]


def read_manifests(folders: Iterable[Path]) -> dict[str, Manifest]:
    """Every manifest of the checkout, also of models that `models` no longer lists."""
    manifests = [Manifest.load(path) for folder in folders for path in sorted(folder.glob("*.json"))]
    return {manifest.model: manifest for manifest in manifests}


def entries(root: Path, manifests: Mapping[str, Manifest]) -> list[Entry]:
    """The stores directly below `root`, by name; anything else there is none of our business."""
    if not root.is_dir():
        return []
    folders = [path for path in sorted(root.iterdir()) if path.is_dir() and NAME.fullmatch(path.name)]
    return [entry(path, naming(path.name, manifests)) for path in folders]


def naming(store: str, manifests: Mapping[str, Manifest]) -> tuple[str, ...]:
    """Which manifests name a store."""
    return tuple(name for name, manifest in manifests.items() if store in _stores(manifest))


def entry(path: Path, manifests: tuple[str, ...]) -> Entry:
    """What can be said about a store without reading an activation."""
    named = NAME.fullmatch(path.name)
    stats = [(file, file.stat()) for file in path.rglob("*") if file.is_file()]
    used = [max(stat.st_atime, stat.st_mtime) for file, stat in stats if file.name == "0"]
    try:
        store = ActivationStore.open(path)
    except UserError:
        store = None
    return Entry(
        path=path,
        model=named["model"] if named else "?",
        split=named["split"] if named else "?",
        store=store,
        finished=sum(store.done(chunk) for chunk in range(store.chunks)) if store else 0,
        files=sum(stat.st_size for _, stat in stats),
        written=max((stat.st_mtime for _, stat in stats), default=0.0),
        used=max(used, default=0.0),
        manifests=manifests,
    )


def unnamed(stores: Iterable[Entry], now: datetime) -> Unnamed:
    """The stores that no manifest names.

    A manifest is written when both splits are extracted, so an unnamed store may be one half of a running
    extraction: while any unnamed store of a model is fresh, all of that model's are kept.
    """
    candidates = [entry for entry in stores if not entry.manifests]
    fresh = {entry.model for entry in candidates if now.timestamp() - entry.written < BUSY_SECONDS}
    removable, kept = [], []
    for candidate in candidates:
        if candidate.path.is_symlink():
            kept.append((candidate, "it is a link; remove it and what it points to yourself"))
        elif candidate.model in fresh:
            kept.append(
                (candidate, f"'{candidate.model}' was written to within the hour: extraction may be running")
            )
        else:
            removable.append(candidate)
    return Unnamed(removable, kept)


def _stores(manifest: Manifest) -> set[str]:
    return {manifest.split(split).store for split in SPLITS}
