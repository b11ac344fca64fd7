"""Manifests: the small files that stand for an activation store in DVC.

Stage `extract@m` writes `data/manifests/m.json`: what was extracted (backbone, layer, geometry, images), where
(store names, which carry a fingerprint of all that), every chunk's CRC32C and the statistics. The stores
themselves are not DVC outputs, so nothing hashes, copies or re-extracts them.
"""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from usae.activations.store import ActivationStore, Moments
from usae.activations.store.files import Fault
from usae.common.errors import UserError
from usae.common.files.json_files import read_json, write_json
from usae.common.params import Fit, Order

SPLITS = ("train", "val")
UNTRAINED = "untrained-"  # before a slug: the same network with random weights (stage `untrained@m`)
VERIFY_VARIABLE = "USAE_VERIFY"  # 1, 0: every byte is compared with its checksum when a store is opened, or none
VERIFIED = 20e9  # bytes of a store that are compared where the variable is not set: seconds


@dataclass(frozen=True)
class SplitManifest:
    """One split's store: its folder name below the store root, size, image index and checksums."""

    store: str
    images: int
    images_digest: str
    chunk_images: int
    crc32c: tuple[str, ...]

    def same_images(self, whole: bool) -> object:
        """Equal where the images are; `whole`: or are the first ones of equal ones (`ImageIndex.digest`)."""
        return self.images_digest.partition("[")[0] if whole else (self.images, self.images_digest)

    @classmethod
    def of(cls, store: ActivationStore, images_digest: str) -> "SplitManifest":
        """A finished store as it is."""
        crc32c = tuple(store.checksum(chunk) for chunk in range(store.chunks))
        return cls(store.path.name, store.images, images_digest, store.chunk_images, crc32c)


@dataclass(frozen=True)
class Manifest:
    """What `extract` made of one model.

    mean, std: scalars over tokens and channels of training images. statistics: whether these, and the channels'
    own, were taken after or before resampling to the grid (`after` where nothing was resampled).
    """

    model: str
    backbone: dict[str, Any]  # backbones' Identity as plain values
    layer: int | str
    norm: bool
    grid: int
    fit: Fit
    dtype: str
    width: int
    mean: float
    std: float
    statistics: Order
    statistics_images: int
    channel_mean: tuple[float, ...]
    channel_std: tuple[float, ...]
    train: SplitManifest
    val: SplitManifest

    @property
    def size(self) -> str:
        """How many images, tokens and channels, in words."""
        return f"{self.train.images} + {self.val.images} images, {self.grid}² tokens, width {self.width}"

    @classmethod
    def of(cls, channels: Moments, sample: Moments, **fields: Any) -> "Manifest":
        """With the statistics of moments: the channels' own, and the scalars of a sample; `fields`: all others."""
        mean, std = sample.scalar()
        return cls(
            width=len(channels.mean),
            mean=mean,
            std=std,
            channel_mean=tuple(channels.mean.tolist()),
            channel_std=tuple(np.sqrt(channels.m2 / channels.count).tolist()),
            **fields,
        )

    @classmethod
    def generated(cls, model: str, store: ActivationStore) -> "Manifest":
        """Of activations that come from no network: one finished store, which serves as both splits."""
        moments = Moments.merged(map(store.moments, range(store.chunks)), store.width)
        split = SplitManifest.of(store, "generated")
        return cls.of(
            moments,
            moments,
            model=model,
            backbone={},
            layer=-1,
            norm=False,
            grid=round(store.tokens**0.5),
            fit="squash",
            dtype=str(store.dtype),
            statistics="after",
            statistics_images=store.images,
            train=split,
            val=split,
        )

    @classmethod
    def load(cls, path: Path) -> "Manifest":
        """The manifest at `path`.

        Raises:
            UserError: there is none, or it is not whole.
        """
        if not path.is_file():
            raise UserError(f"There is no manifest at {path}; run `dvc repro {stage_of(_model_at(path))}`.")
        try:
            return cls._parsed(read_json(path))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path} is not a whole manifest of this version ({error}); run `{remedy(_model_at(path))}`."
            ) from error

    @classmethod
    def _parsed(cls, raw: dict[str, Any]) -> "Manifest":
        splits = {
            split: SplitManifest(**{**raw[split], "crc32c": tuple(raw[split]["crc32c"])}) for split in SPLITS
        }
        channels = {key: tuple(raw[key]) for key in ("channel_mean", "channel_std")}
        for split in splits.values():
            if Path(split.store).name != split.store or split.store in ("", ".."):
                raise ValueError(f"'{split.store}' should be the name of a store, found a path")
            if (chunks := -(-split.images // split.chunk_images)) != len(split.crc32c):
                raise ValueError(f"{chunks} chunks should have a checksum each, found {len(split.crc32c)}")
        return cls(**{**raw, **splits, **channels})

    def save(self, path: Path) -> None:
        """Write the manifest; the same contents give the same bytes."""
        write_json(path, dataclasses.asdict(self), indent=1)

    def refuse_other(self, path: Path) -> None:
        """See that a manifest at `path`, if there is one, says the same of the same stores.

        Raises:
            UserError: it describes other chunks: which of the two are right, nobody can tell.
        """
        try:
            before = Manifest.load(path)
        except UserError:  # there is none, or it says nothing
            return
        pairs = [(self.split(split), before.split(split)) for split in SPLITS]
        faults = [
            f"Chunk {j} of {new.store} has checksum {new.crc32c[j]}, the manifest says {old.crc32c[j]}."
            for new, old in pairs
            if new.store == old.store
            for j in range(len(new.crc32c))
            if new.crc32c[j] != old.crc32c[j]
        ]
        if faults:
            raise UserError.listing(
                f"Nothing was written: the chunks that are there are not those that {path} describes. `usae store "
                "verify --repair` removes them, then the same command computes them anew. Or are they of another "
                f"kind of device? `rm {path}`, then the same command describes them as they are.",
                faults,
            )

    def split(self, name: str) -> SplitManifest:
        """The `train` or the `val` part."""
        return {"train": self.train, "val": self.val}[name]

    def open(self, split: str, root: Path, whole: bool = False) -> ActivationStore:
        """The store of `split` below `root`, complete and the one this manifest names.

        Up to VERIFIED bytes are compared with their checksums (all where `whole`), or as $USAE_VERIFY says: with
        one bit another, an activation may be thousands of times as large, and what trains on it diverges, or comes
        out a little worse.

        Raises:
            UserError: it is gone, incomplete, or holds other chunks; every fault is listed.
        """
        path = root / self.split(split).store
        try:
            store = ActivationStore.open(path)
        except UserError as error:
            raise UserError(
                f"{error} The manifest of '{self.model}' names it. Run `{remedy(self.model)}` to extract it "
                "again, or point `runtime.store` or $USAE_STORE at where it lies."
            ) from error
        said = os.environ.get(VERIFY_VARIABLE)
        found = store.faults(deep=said != "0" if said else whole or not _is_large(store))
        if faults := list(map(str, found)):
            there = any(fault.damaged for fault in found)
            removal = f"`usae store verify --repair {path}`, then " if there else ""
            raise UserError.listing(
                f"The store {path} of '{self.model}' is damaged. Run {removal}`{remedy(self.model)}`: "
                "only these chunks are extracted again.",
                faults,
            )
        if faults := list(map(str, self.disagreements(split, store))):
            raise UserError.listing(
                f"The store {path} is not what the manifest of '{self.model}' describes. "
                f"`usae store verify --repair {path}` removes damaged chunks; then run "
                f"`{remedy(self.model)}`, which extracts those again and describes the store as it is.",
                faults,
            )
        return store

    def is_left_unread(self, split: str, root: Path) -> bool:
        """Whether `open` compares no bytes of the store: it is large, and $USAE_VERIFY says nothing."""
        return VERIFY_VARIABLE not in os.environ and _is_large(self.open(split, root))

    def disagreements(self, split: str, store: ActivationStore) -> list[Fault]:
        """Where a store without faults differs from this manifest: in shape, or in its trailers' checksums."""
        wanted = self.split(split)
        expected = (wanted.images, self.width, wanted.chunk_images)
        actual = (store.images, store.width, store.chunk_images)
        if actual != expected:
            return [Fault(f"Images, width and images per chunk should be {expected}, found {actual}.")]
        checksums = enumerate(zip(wanted.crc32c, map(store.checksum, range(store.chunks)), strict=True))
        return [
            Fault(f"Chunk {j} has checksum {actual}, the manifest says {expected}.", store.chunk_path(j))
            for j, (expected, actual) in checksums
            if actual != expected
        ]


def remedy(model: str) -> str:
    """The command that extracts what is missing of a model's stores, and nothing that precedes it."""
    return f"dvc repro -f -s {stage_of(model)}"


def stage_of(model: str) -> str:
    """The stage that extracts a model, trained or not."""
    slug = model.removeprefix(UNTRAINED)
    return f"extract@{slug}" if slug == model else f"untrained@{slug}"


def load_manifests(folder: Path, models: tuple[str, ...]) -> dict[str, Manifest]:
    """The manifests of `models`, in order; those in `data/untrained` by the names of the untrained networks.

    Raises:
        UserError: one is missing, or they disagree on images, order, geometry or grid (all named).
    """
    loaded = [Manifest.load(folder / f"{model}.json") for model in models]
    manifests = {manifest.model: manifest for manifest in loaded}
    check_paired(manifests)
    return manifests


def load_with_untrained(trained: Path, untrained: Path, models: tuple[str, ...]) -> dict[str, Manifest]:
    """The manifests of `models` in both folders; untrained networks may have the first training images alone.

    Raises:
        UserError: see `load_manifests`.
    """
    manifests = load_manifests(trained, models) | load_manifests(untrained, models)
    check_paired(manifests, whole=True)
    return manifests


def check_paired(manifests: Mapping[str, Manifest], whole: bool = False) -> None:
    """Rows of different models must be the same image patch.

    whole: it is enough that the training images are the first ones of the same set.

    Raises:
        UserError: they are not; every disagreement is named with each model's value.
    """
    aspects: dict[str, dict[str, object]] = {
        "training images": {m: x.train.same_images(whole) for m, x in manifests.items()},
        "held-out images": {m: x.val.same_images(False) for m, x in manifests.items()},
        "grid": {m: x.grid for m, x in manifests.items()},
        "fit": {m: x.fit for m, x in manifests.items()},
    }
    faults = [
        f"{aspect}: " + ", ".join(f"{model} {value}" for model, value in values.items())
        for aspect, values in aspects.items()
        if len(set(values.values())) > 1
    ]
    if faults:
        raise UserError.listing(
            "The models' activations do not belong together; run `dvc repro extract` so that all are extracted "
            "from the same images on the same grid. They disagree on",
            faults,
        )


def _model_at(path: Path) -> str:
    """Whose manifest lies there: `data/untrained/m.json` is that of m with random weights."""
    return f"{UNTRAINED}{path.stem}" if path.parent.name == "untrained" else path.stem


def _is_large(store: ActivationStore) -> bool:
    return store.chunks * store.chunk_bytes > VERIFIED
