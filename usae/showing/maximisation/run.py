"""The maximisation of all chosen concepts, a few at a time (stage `maximise`).

Pictures are kept beside the training checkpoints, below the store root, under what they depend on: a killed run
goes on, and another choice of concepts makes no picture again. `usae store gc` removes them.
"""

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from usae.activations.store import store_root
from usae.activations.store.location import checkpoint_folder, fingerprint
from usae.activations.store.manifests import Manifest, load_manifests
from usae.backbones.networks.backbone import Backbone
from usae.common.layout import Layout
from usae.common.params import MaximiseParams, Params
from usae.common.runtime.parallel import side_by_side
from usae.common.runtime.progress import about, progress
from usae.common.tables import read_table
from usae.images.pixels.index import ImageIndex
from usae.sae.universal import WEIGHTS, UniversalSAE
from usae.showing.maximisation.maco import fallback_spectrum
from usae.showing.maximisation.real_images import real_scores, run_spectrum
from usae.showing.maximisation.targets import (
    Maximisation,
    MaximisationTarget,
    PaintedTarget,
    Probe,
    load_probe,
    paint_targets,
    score_target,
    targets_at_once,
    targets_of,
)
from usae.showing.results.choice import added_concepts, chosen_concepts

TABLES = ("concepts", "concept_models")

log = logging.getLogger("usae")


def maximise(params: Params, layout: Layout, device: torch.device) -> Maximisation:
    """The concepts that `params.maximise` chooses, and random directions, maximised for every model; none in a
    quick run.

    Raises:
        UserError: `maximise.ids` or `.also` name unknown concepts; stores, weights or tables are missing.
    """
    concepts, concept_models = (read_table(layout.reports / f"{name}.parquet") for name in TABLES)
    asked = not params.quick
    chosen = chosen_concepts(concepts, concept_models, params.maximise, params.models) if asked else []
    also = added_concepts(concepts, params.maximise, chosen) if asked else []
    targets = targets_of([*chosen, *also], params.maximise.random if chosen or also else 0)
    manifests = load_manifests(layout.manifests, params.models)
    root = store_root(params.runtime.store)
    probes = _load_probes(params, layout, manifests, targets, device)
    real = {
        model: real_scores(probe.directions, manifests[model].open("val", root), params.maximise.score)
        for model, probe in probes.items()
    }
    folder = checkpoint_folder(root, "maximise", _identity(params, layout, manifests))
    size = targets_at_once(params.maximise, params.runtime.batch_images)
    batches = batches_of(len(chosen), len(also), targets, size)
    painted = paint_all(params, probes, targets, batches, _spectrum(params, layout, manifests), folder)
    scored = [score_target(probes, row, each, params.maximise) for row, each in enumerate(painted)]
    return Maximisation(targets, scored, real)


def batches_of(chosen: int, also: int, targets: Sequence[MaximisationTarget], size: int) -> list[range]:
    """Rows of targets that are painted together, since rounding depends on what stands beside a picture.

    Up to `size` of the `chosen` concepts, or of the random directions, which come last; each of those that are
    there `also` alone, so that one more changes no other.
    """
    end = chosen + also
    return [
        *(range(row, min(row + size, chosen)) for row in range(0, chosen, size)),
        *(range(row, row + 1) for row in range(chosen, end)),
        *(range(row, min(row + size, len(targets))) for row in range(end, len(targets), size)),
    ]


def paint_all(
    params: Params,
    probes: Mapping[str, Probe],
    targets: Sequence[MaximisationTarget],
    batches: Sequence[range],
    magnitude: Tensor,
    folder: Path,
) -> list[PaintedTarget]:
    """The pictures of every target; those that `folder` holds are not made again, new ones are kept there.

    Where one of a batch is missing, all of it are made again.
    """
    settings, size = params.maximise, params.runtime.batch_images
    seeds = [params.seed + start for start in range(settings.starts)]
    paths = {rows: kept_paths(folder, [targets[row] for row in rows]) for rows in batches}
    missing = [rows for rows in batches if not all(map(PaintedTarget.kept, paths[rows]))]
    device = next(iter(probes.values())).mean_token.device

    def seconds(rows: range) -> float:
        return expected_seconds(probes, rows, magnitude, settings, seeds, size)

    def paint(rows: range) -> None:
        made = paint_targets(probes, rows, magnitude, settings, seeds, size)
        for path, each in zip(paths[rows], made, strict=True):
            each.save(path)

    for each in side_by_side(seconds, missing[:1], device):
        expected = about(each * -(-len(missing) // torch.get_num_threads()))
        log.info("maximise: %d targets to paint, %s", sum(map(len, missing)), expected)
    painted = side_by_side(paint, missing, device)
    for _ in progress(painted, total=len(missing), description="maximise", unit="batch"):
        pass
    return [PaintedTarget.load(path) for rows in batches for path in paths[rows]]


def expected_seconds(
    probes: Mapping[str, Probe],
    rows: Sequence[int],
    magnitude: Tensor,
    params: MaximiseParams,
    seeds: Sequence[int],
    batch: int,
) -> float:
    """What a batch takes, by its first step."""
    started = time.monotonic()
    paint_targets(probes, rows, magnitude, params.model_copy(update={"steps": 1}), seeds, batch)
    return params.steps * (time.monotonic() - started)


def kept_paths(folder: Path, batch: Sequence[MaximisationTarget]) -> list[Path]:
    """Where the pictures of a batch are kept: a target's, by its name and by what it is painted beside."""
    names = [target.name for target in batch]
    return [folder / f"{name}-{fingerprint({'batch': names})}.npz" for name in names]


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


def _identity(params: Params, layout: Layout, manifests: Mapping[str, Manifest]) -> dict[str, Any]:
    """All that a picture depends on, but for the batch that it is painted in."""
    return {
        "seed": params.seed,
        "maximise": params.maximise.model_dump(exclude={"rule", "ids", "also", "concepts"}),
        "sae": hashlib.sha256((layout.usae / WEIGHTS).read_bytes()).hexdigest(),
        "stores": {model: [m.val.store, m.val.images_digest] for model, m in manifests.items()},
    }
