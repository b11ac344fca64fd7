"""Whether stores hold what was written to them and what the manifests say (`usae store verify`)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from usae.activations.commands.catalogue import NAME, naming
from usae.activations.store.files import Fault
from usae.activations.store.location import fingerprint
from usae.activations.store.manifests import SPLITS, Manifest, remedy
from usae.activations.store.store import ActivationStore
from usae.common.errors import UserError
from usae.common.runtime.progress import progress


@dataclass(frozen=True)
class StoreTarget:
    """A store to be verified, and the manifest that names it, if one does."""

    path: Path
    manifest: Manifest | None

    @property
    def split(self) -> str:
        """Which of the manifest's splits it is."""
        return next(
            split for split in SPLITS if self.manifest and self.manifest.split(split).store == self.path.name
        )

    @property
    def model(self) -> str:
        """The slug behind `extract@`."""
        named = NAME.fullmatch(self.path.name)
        return self.manifest.model if self.manifest else named["model"] if named else "MODEL"


@dataclass(frozen=True)
class StoreFault:
    """A fault of a store, and the command that repairs it."""

    target: StoreTarget
    fault: Fault

    @property
    def command(self) -> str:
        """What to run."""
        removal = f"rm {self.fault.damaged} && " if self.fault.damaged else ""
        return removal + remedy(self.target.model)


def targets(paths: Iterable[Path], manifests: Mapping[str, Manifest], root: Path) -> list[StoreTarget]:
    """The stores at `paths`; without any, all that the manifests name.

    Raises:
        UserError: no path is given and there is no manifest.
    """
    given = [
        StoreTarget(path, next((manifests[m] for m in naming(path.absolute().name, manifests)), None))
        for path in paths
    ]
    if given:
        return given
    if not manifests:
        raise UserError(
            "There is no manifest in data/manifests. Run `dvc repro extract` (or `dvc pull extract`, where they "
            "were pushed), or give the paths of stores: usae store verify PATH"
        )
    return [
        StoreTarget(root / manifest.split(split).store, manifest)
        for manifest in manifests.values()
        for split in SPLITS
    ]


def verify(target: StoreTarget, *, deep: bool) -> Iterator[StoreFault]:
    """All faults of one store; `deep` reads every byte."""
    metadata = target.path / "zarr.json"
    try:
        store = ActivationStore.open(target.path)
    except UserError as error:
        yield StoreFault(target, Fault(str(error), metadata if metadata.is_file() else None))
        return
    if (name := _name_of(store)) != target.path.absolute().name:  # its chunks may be sound
        yield StoreFault(target, Fault(f"{metadata} describes another store, {name}.", metadata))
        return
    faulty = False
    for chunk in progress(range(store.chunks), description=target.path.name, unit="chunk"):
        for fault in store.check(chunk, deep=deep):
            faulty = True
            yield StoreFault(target, fault)
    if target.manifest and not faulty:
        yield from (StoreFault(target, fault) for fault in target.manifest.disagreements(target.split, store))


def _name_of(store: ActivationStore) -> str:
    """What a store should be called by what it says of itself; where it says nothing, its own name."""
    said = store.attributes
    if not {"model", "split", "config"} <= said.keys():
        return store.path.absolute().name
    return f"{said['model']}-{said['split']}-{fingerprint(said['config'])}"
