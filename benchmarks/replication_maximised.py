"""Pictures of an SAE's concepts and of random directions, without a finished run: how they rise."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from usae.activations.store import store_root
from usae.activations.store.manifests import Manifest
from usae.backbones.networks.backbone import Backbone
from usae.common.params import Params
from usae.evidence.metrics.firing.counts import FiringCounts, cofire_proportion_min, firing_entropy
from usae.images.pixels.index import ImageIndex
from usae.sae.universal import UniversalSAE
from usae.showing.maximisation.real_images import real_scores, run_spectrum
from usae.showing.maximisation.targets import Maximisation, load_probe, maximise_targets, targets_of
from usae.showing.maximisation.transfer import curve_table, transfer_table

CURVES = Path("benchmarks/replication_curves.csv")
EVERY = 10  # steps between two rows of a curve
FEWEST = 20  # fires in each model, as the funnel asks


def maximised(
    params: Params,
    sae: UniversalSAE,
    manifests: Mapping[str, Manifest],
    counts: FiringCounts,
    number: int,
    checkout: Path,
) -> list[dict[str, Any]]:
    """Rows of the curves of the `number` concepts that the models agree on most, and of as many random directions.

    A row has what the finished picture is, in standard deviations of real images, to its own model and to the
    others: the first rises with every step that is made, the second only where models see the same.
    """
    targets = targets_of(agreed(counts, number), number)
    probes = {}
    for model, manifest in manifests.items():
        backbone = Backbone.load(checkout / "data/weights" / model, manifest.layer, manifest.grid, manifest.norm)
        probes[model] = load_probe(sae, model, backbone, targets, manifest.channel_mean, params.seed)
    settings, root = params.maximise, checkout / store_root(params.runtime.store)
    seeds = [params.seed + start for start in range(settings.starts)]
    magnitude = spectrum(checkout, settings.size, next(iter(manifests.values())))
    made = maximise_targets(probes, range(len(targets)), magnitude, settings, seeds, params.runtime.batch_images)
    real = {
        model: real_scores(probe.directions, manifests[model].open("val", root), settings.score)
        for model, probe in probes.items()
    }
    return rows(Maximisation(targets, made, real), firing_entropy(counts.fires))


def agreed(counts: FiringCounts, number: int) -> list[int]:
    """The concepts of the largest agreement, among those that fire often enough in every model."""
    agreement = cofire_proportion_min(counts.cofires, counts.fires)
    asked = np.where((counts.fires >= FEWEST).all(axis=0), agreement, -1.0)
    return [int(concept) for concept in np.argsort(-asked, kind="stable")[:number]]


def rows(maximisation: Maximisation, entropy: np.ndarray) -> list[dict[str, Any]]:
    """Some steps of each curve, beside the finished picture's z in its own model and, mean, in the others."""
    curve, seen = curve_table(maximisation), transfer_table(maximisation)
    key, own = ["kind", "concept_id", "start", "model"], seen["model"] == seen["scored_by"]
    z = pd.DataFrame(
        {"z_own": seen[own].groupby(key)["z"].mean(), "z_others": seen[~own].groupby(key)["z"].mean()}
    )
    last = curve["step"] == curve["step"].max()
    found = curve[(curve["step"] % EVERY == 0) | last].merge(z, on=key)
    concepts = found["kind"] == "concept"
    found["entropy"] = np.where(concepts, entropy[np.where(concepts, found["concept_id"], 0)], np.nan)
    return [{str(name): value for name, value in row.items()} for row in found.to_dict("records")]


def spectrum(checkout: Path, size: int, manifest: Manifest) -> Tensor:
    """The mean magnitudes of held-out images."""
    return run_spectrum(ImageIndex.load(checkout / "data/images/val.parquet"), size, manifest.fit)
