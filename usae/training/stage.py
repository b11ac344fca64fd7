"""What the stages that train have in common: stores in, checkpoints beside them, outputs written once.

`with training_run(...) as trained:` trains or goes on from a checkpoint; the checkpoints go when the block has
written its outputs.
"""

import logging
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from usae.activations.sampling import PairedActivations, open_paired
from usae.activations.store import store_root
from usae.activations.store.location import checkpoint_folder
from usae.activations.store.manifests import Manifest
from usae.common.errors import UserError
from usae.common.files.whole import size_text
from usae.common.layout import START
from usae.common.params import Params, TrainParams
from usae.common.runtime.device import configure
from usae.common.runtime.ranks import Ranks, join_processes
from usae.common.runtime.tracker import open_tracker
from usae.common.variant import Variant
from usae.training.loop.checkpoints import Checkpoints
from usae.training.loop.loop import Result, RunOptions, train
from usae.training.portion import Portion, run_portion

log = logging.getLogger("usae")


@contextmanager
def training_run(
    params: Params,
    name: str,
    manifests: Mapping[str, Manifest],
    variants: Mapping[str, Variant],
    curve: Path | None = None,
    halves: Sequence[np.ndarray] = (),
    portion: Portion | None = None,
) -> Iterator[dict[str, Result]]:
    """SAEs by variant, of models of `manifests`; of these only what the variants name is read.

    curve: where the loss of the first one is shown while it trains. halves: see `loop.train`. portion: of the
    training images and epochs; None: the run's.

    Raises:
        UserError: see `loop.train` and `Manifest.open`; of large stores also after training (`ReadMeanwhile`).
    """
    device = join_processes(configure(params.runtime))
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32 in the encoder
        torch.cuda.set_device(device.index or 0)  # where Triton starts its kernels
    root = store_root(params.runtime.store)
    portion = portion or run_portion(params)
    manifests, recipe = _named(manifests, variants.values()), portion.recipe(params.train)
    data = open_paired(manifests, root, portion.images)
    identity = _identity(params.seed, recipe, manifests, variants, halves) | {"images": data.images}
    folder = checkpoint_folder(root, name, identity)
    checkpoints = Checkpoints(folder, identity, params.runtime.checkpoint_minutes)
    first = Ranks.current().rank == 0  # of several processes, it alone writes
    track = open_tracker(params.runtime.tracker, folder.name) if first else None
    options = RunOptions(device, params.runtime.resident, checkpoints, curve, track, params.runtime.kernels)
    if first:
        log.info("%s", to_come(name, variants, data, recipe))
    reading = ReadMeanwhile(manifests.values() if first else (), root)
    trained = train(variants, manifests, data, recipe, options, seed=params.seed, halves=halves)
    reading.finish()
    yield trained
    if first:
        checkpoints.clear()


def to_come(name: str, variants: Mapping[str, Variant], data: PairedActivations, recipe: TrainParams) -> str:
    """How many SAEs a run trains, for how many steps, and how much it reads for that."""
    epoch, saes = -(-data.images // recipe.batch_images), f"{len(variants)} SAE{'s' if len(variants) > 1 else ''}"
    return (
        f"{name}: {saes} of {recipe.dictionary} concepts, {recipe.epochs * epoch} steps of {recipe.batch_images} "
        f"images ({recipe.epochs} epochs of {data.images}); an epoch reads {size_text(data.bytes)}"
    )


class ReadMeanwhile:
    """Compares every byte of training stores that were too large for that at opening, while they are trained on.

    In a thread of its own, which ends with the process.
    """

    def __init__(self, manifests: Iterable[Manifest], root: Path) -> None:
        self.faults: list[str] = []
        self._manifests = [each for each in manifests if each.is_left_unread("train", root)]
        self._root = root
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait for the end.

        Raises:
            UserError: a store is damaged, so what was trained on it is not kept.
        """
        self._thread.join()
        if self.faults:
            raise UserError("\n".join(self.faults))

    def _read(self) -> None:
        for manifest in self._manifests:
            try:
                manifest.open("train", self._root, whole=True)
            except UserError as error:
                self.faults.append(str(error))


def save(trained: Result, folder: Path) -> None:
    """The SAE to `folder`, as it was before its first step to `folder/start`."""
    trained.sae.save_pretrained(folder)
    trained.start.save_pretrained(folder / START)


def _named(manifests: Mapping[str, Manifest], variants: Iterable[Variant]) -> dict[str, Manifest]:
    """Those of `manifests` that any of the variants is of."""
    names = {model for variant in variants for model in variant.models or manifests}
    return {model: manifest for model, manifest in manifests.items() if model in names}


def _identity(
    seed: int,
    recipe: TrainParams,
    manifests: Mapping[str, Manifest],
    variants: Mapping[str, Variant],
    halves: Sequence[np.ndarray],
) -> dict[str, Any]:
    """All that the result depends on: a checkpoint of anything else is refused."""
    return {
        "seed": seed,
        "train": recipe.model_dump(),
        "halves": [zlib.crc32(half.tobytes()) for half in halves],
        "variants": {name: asdict(variant) for name, variant in variants.items()},
        "stores": {model: [m.train.store, list(m.train.crc32c)] for model, m in manifests.items()},
    }
