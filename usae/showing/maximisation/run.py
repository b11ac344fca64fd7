"""The maximisation of all chosen concepts, a few at a time, so that a killed run goes on (stage `maximise`).

Finished portraits lie beside the training checkpoints, below the store root, until the stage's outputs are
written.
"""

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from usae.activations.store import store_root
from usae.activations.store.location import checkpoint_folder
from usae.activations.store.manifests import Manifest, load_manifests
from usae.backbones.networks.backbone import Backbone
from usae.common.params import Params
from usae.common.runtime.progress import progress
from usae.common.tables import read_table
from usae.images.pixels.index import ImageIndex
from usae.sae.universal import WEIGHTS, UniversalSAE
from usae.showing.maximisation.maco import fallback_spectrum
from usae.showing.maximisation.portraits import (
    Collection,
    Eye,
    Portrait,
    Target,
    open_eye,
    paint,
    targets_of,
    together,
)
from usae.showing.maximisation.real_images import real_scores, run_spectrum
from usae.showing.results.choice import chosen_concepts

SAE, REPORTS, INDEX = Path("data/usae"), Path("reports"), Path("data/images/val.parquet")
TABLES = ("concepts", "concept_models")


@contextmanager
def maximise(params: Params, device: torch.device) -> Iterator[Collection]:
    """Portraits of the concepts that `params.maximise` chooses, and of random directions.

    What is finished stays below the store root until the block ends, so that the same command goes on after a
    kill.

    Raises:
        UserError: `maximise.ids` names concepts that there are not; stores, weights or tables are missing.
    """
    settings = params.maximise
    concepts, concept_models = (read_table(REPORTS / f"{name}.parquet") for name in TABLES)
    chosen = chosen_concepts(concepts, concept_models, settings, params.models)
    targets = targets_of(chosen, settings.random if chosen else 0)
    manifests = load_manifests(Path("data/manifests"), params.models)
    root = store_root(params.runtime.store)
    eyes = _open_eyes(params, manifests, targets, device)
    real = {
        model: real_scores(eye.directions, manifests[model].open("val", root), settings.score)
        for model, eye in eyes.items()
    }
    folder = checkpoint_folder(root, "maximise", _identity(params, manifests, targets))
    yield Collection(targets, paint_all(params, eyes, targets, _spectrum(params, manifests), folder), real)
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # another run's are there
        folder.parent.rmdir()


def paint_all(
    params: Params, eyes: Mapping[str, Eye], targets: Sequence[Target], magnitude: Tensor, folder: Path
) -> list[Portrait]:
    """Every target's portrait; those that `folder` holds are not made again, new ones are kept there.

    A few are made at a time, always the same ones, since rounding depends on what stands beside a picture: where
    one of them is missing, all are made again.
    """
    settings, batch = params.maximise, params.runtime.batch_images
    seeds = [params.seed + start for start in range(settings.starts)]
    paths = [folder / f"{target.name}.npz" for target in targets]
    size, portraits = together(settings, batch), []
    for place in progress(range(len(targets)), description="maximise", unit="concept"):
        some = range(place, min(place + size, len(targets)))
        if place % size == 0 and not all(paths[each].is_file() for each in some):
            for each, portrait in zip(some, paint(eyes, some, magnitude, settings, seeds, batch), strict=True):
                portrait.save(paths[each])
        portraits.append(Portrait.load(paths[place]))
    return portraits


def _open_eyes(
    params: Params, manifests: Mapping[str, Manifest], targets: Sequence[Target], device: torch.device
) -> dict[str, Eye]:
    usae = UniversalSAE.from_pretrained(SAE).to(device)
    eyes = {}
    for model, manifest in manifests.items():
        folder = Path("data/weights") / model
        backbone = Backbone.load(folder, manifest.layer, manifest.grid, manifest.norm).to(device)
        eyes[model] = open_eye(usae, model, backbone, targets, manifest.channel_mean, params.seed)
    return eyes


def _spectrum(params: Params, manifests: Mapping[str, Manifest]) -> Tensor:
    size = params.maximise.size
    if params.maximise.spectrum == "analytic":
        return fallback_spectrum(size)
    index = ImageIndex.load(INDEX, Path(params.images.path or "."))
    return run_spectrum(index, size, next(iter(manifests.values())).fit)


def _identity(params: Params, manifests: Mapping[str, Manifest], targets: Sequence[Target]) -> dict[str, Any]:
    """All that a portrait depends on."""
    return {
        "seed": params.seed,
        "maximise": params.maximise.model_dump(exclude={"rule", "ids", "concepts"}),
        "usae": hashlib.sha256((SAE / WEIGHTS).read_bytes()).hexdigest(),
        "stores": {model: [m.val.store, m.val.images_digest] for model, m in manifests.items()},
        "targets": [target.name for target in targets],
    }
