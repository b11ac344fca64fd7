"""An SAE before its first step: statistics of the activations, and where its concepts start.

`random` is the authors' start. The others put concept c of every model at one place, so that the shared space is
aligned before anything is learnt: `paired` at one token (image, position), `clusters` at a cluster of tokens.
"""

import math
import statistics
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from usae.activations.sampling import PairedActivations
from usae.activations.store.manifests import Manifest
from usae.common.params import TrainParams
from usae.common.variant import Variant
from usae.sae.universal import UniversalSAE
from usae.training.start.clusters import start_at_clusters
from usae.training.start.first_weights import drawn_from
from usae.training.start.tokens import start_at_tokens


def new_sae(
    manifests: Mapping[str, Manifest],
    data: PairedActivations,
    params: TrainParams,
    variant: Variant,
    kept: Path | None = None,
    device: torch.device | None = None,
) -> UniversalSAE:
    """An SAE before training, as `sae_and_starts` makes it.

    Raises:
        UserError: there are fewer training tokens than concepts, but for `init: random`.
    """
    return sae_and_starts(manifests, data, params, variant, kept, device)[0]


def sae_and_starts(
    manifests: Mapping[str, Manifest],
    data: PairedActivations,
    params: TrainParams,
    variant: Variant,
    kept: Path | None = None,
    device: torch.device | None = None,
) -> tuple[UniversalSAE, dict[str, Tensor]]:
    """An SAE before training, with the statistics and the identity of each model's activations.

    Also where its concepts start in each model's standardised activations, (c, d); empty for `init: random`.

    data: what it is to be trained on. kept: folder for clusters, which are not sought again when they are there.
    device: where clusters are sought; the SAE itself is on the CPU.

    Raises:
        UserError: there are fewer training tokens than concepts, but for `init: random`.
    """
    about = {
        "models": {model: _about(manifest) for model, manifest in manifests.items()},
        "train": params.model_dump(),
        "seed": variant.seed,
    }
    widths = {model: manifest.width for model, manifest in manifests.items()}
    with drawn_from(variant.seed, "first weights"):
        sae = UniversalSAE(widths, params.dictionary, variant.k, about, params.levels or ())
    for model, manifest in manifests.items():
        set_statistics(sae, model, manifest, params)
    means = {model: torch.tensor(manifest.channel_mean) for model, manifest in manifests.items()}
    starts = {}
    if params.init == "paired":
        starts = start_at_tokens(sae, data, means, variant)
    if params.init == "clusters":
        starts = start_at_clusters(sae, data, means, variant, kept, device or torch.device("cpu"))
    return sae, starts


def set_statistics(sae: UniversalSAE, model: str, manifest: Manifest, params: TrainParams) -> None:
    """The units of one model's activations, from its manifest."""
    part = sae.part(model)
    if params.standardize == "scalar":
        part.mean.fill_(manifest.mean)
        part.std.fill_(manifest.std)
    else:
        part.mean.copy_(torch.tensor(manifest.channel_mean))
        part.std.copy_(torch.tensor(manifest.channel_std))
    if params.gain == "width":  # a token's norm grows with the root of its width
        part.gain.fill_(math.sqrt(manifest.width / statistics.mean(sae.widths.values())))


def _about(manifest: Manifest) -> dict[str, object]:
    """Which activations these are: enough to extract them again."""
    keys = ("backbone", "layer", "norm", "grid", "fit", "mean", "std", "statistics", "statistics_images")
    return {key: getattr(manifest, key) for key in keys}
