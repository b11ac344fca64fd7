"""The maximisation of all chosen concepts, a few at a time, so that a killed run goes on (stage `maximise`).

Finished targets lie beside the training checkpoints, below the store root, until the stage's outputs are
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

from usae.activations.store import image_spans, store_root
from usae.activations.store.location import checkpoint_folder
from usae.activations.store.manifests import Manifest, load_manifests
from usae.backbones.networks.backbone import Backbone
from usae.common.layout import Layout
from usae.common.params import Params
from usae.common.runtime.parallel import side_by_side
from usae.common.runtime.progress import progress
from usae.common.tables import read_table
from usae.images.pixels.index import ImageIndex
from usae.sae.universal import WEIGHTS, UniversalSAE
from usae.showing.maximisation.maco import fallback_spectrum
from usae.showing.maximisation.real_images import real_scores, run_spectrum
from usae.showing.maximisation.targets import (
    Maximisation,
    MaximisationTarget,
    MaximisedTarget,
    Probe,
    load_probe,
    maximise_targets,
    targets_at_once,
    targets_of,
)
from usae.showing.results.choice import chosen_concepts

TABLES = ("concepts", "concept_models")


@contextmanager
def maximise(params: Params, layout: Layout, device: torch.device) -> Iterator[Maximisation]:
    """The concepts that `params.maximise` chooses, and random directions, maximised for every model; none in a
    quick run.

    What is finished stays below the store root until the block ends, so that the same command goes on after a
    kill.

    Raises:
        UserError: `maximise.ids` names concepts that there are not; stores, weights or tables are missing.
    """
    concepts, concept_models = (read_table(layout.reports / f"{name}.parquet") for name in TABLES)
    asked = not params.quick
    chosen = chosen_concepts(concepts, concept_models, params.maximise, params.models) if asked else []
    targets = targets_of(chosen, params.maximise.random if chosen else 0)
    manifests = load_manifests(layout.manifests, params.models)
    root = store_root(params.runtime.store)
    probes = _load_probes(params, layout, manifests, targets, device)
    real = {
        model: real_scores(probe.directions, manifests[model].open("val", root), params.maximise.score)
        for model, probe in probes.items()
    }
    folder = checkpoint_folder(root, "maximise", _identity(params, layout, manifests, targets))
    maximised = maximise_all(params, probes, targets, _spectrum(params, layout, manifests), folder)
    yield Maximisation(targets, maximised, real)
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # another run's are there
        folder.parent.rmdir()


def maximise_all(
    params: Params,
    probes: Mapping[str, Probe],
    targets: Sequence[MaximisationTarget],
    magnitude: Tensor,
    folder: Path,
) -> list[MaximisedTarget]:
    """Every target; those that `folder` holds are not made again, new ones are kept there.

    A few are made at a time, always the same ones, since rounding depends on what stands beside a picture: where
    one of them is missing, all are made again.
    """
    settings, batch = params.maximise, params.runtime.batch_images
    seeds = [params.seed + start for start in range(settings.starts)]
    paths = [folder / f"{target.name}.npz" for target in targets]

    def make(rows: range) -> None:
        made = maximise_targets(probes, rows, magnitude, settings, seeds, batch)
        for row, target in zip(rows, made, strict=True):
            target.save(paths[row])

    together = image_spans(range(len(targets)), targets_at_once(settings, batch))
    missing = [rows for rows in together if not all(MaximisedTarget.kept(paths[row]) for row in rows)]
    device = next(iter(probes.values())).mean_token.device
    for _ in progress(side_by_side(make, missing, device), total=len(missing), description="maximise"):
        pass
    return [MaximisedTarget.load(path) for path in paths]


def _load_probes(
    params: Params,
    layout: Layout,
    manifests: Mapping[str, Manifest],
    targets: Sequence[MaximisationTarget],
    device: torch.device,
) -> dict[str, Probe]:
    sae = UniversalSAE.from_pretrained(layout.usae).to(device)
    probes = {}
    for model, manifest in manifests.items():
        folder = layout.weights / model
        backbone = Backbone.load(folder, manifest.layer, manifest.grid, manifest.norm).to(device)
        probes[model] = load_probe(sae, model, backbone, targets, manifest.channel_mean, params.seed)
    return probes


def _spectrum(params: Params, layout: Layout, manifests: Mapping[str, Manifest]) -> Tensor:
    size = params.maximise.size
    if params.maximise.spectrum == "analytic":
        return fallback_spectrum(size)
    index = ImageIndex.load(layout.images / "val.parquet", layout.root / (params.images.path or "."))
    return run_spectrum(index, size, next(iter(manifests.values())).fit)


def _identity(
    params: Params, layout: Layout, manifests: Mapping[str, Manifest], targets: Sequence[MaximisationTarget]
) -> dict[str, Any]:
    """All that a maximised target depends on."""
    return {
        "seed": params.seed,
        "maximise": params.maximise.model_dump(exclude={"rule", "ids", "concepts"}),
        "sae": hashlib.sha256((layout.usae / WEIGHTS).read_bytes()).hexdigest(),
        "stores": {model: [m.val.store, m.val.images_digest] for model, m in manifests.items()},
        "targets": [target.name for target in targets],
    }
