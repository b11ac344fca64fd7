"""The network behind a model of a saved SAE: pinned beside the SAE, or built again as its config.json says."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from usae.backbones.networks.backbone import CONFIG, Backbone, Identity, identity_from, read_identity, weight_bytes
from usae.backbones.weights.obtaining import trained
from usae.common.errors import UserError
from usae.common.params import BackboneParams

NETWORKS = "networks"  # folder, inside an SAE's, of the networks that travel with it


def backbone_of(folder: Path, config: Mapping[str, Any], model: str) -> Backbone:
    """The network of `model` of the SAE saved in `folder`, whose `config` says what it is; the very weights.

    Looked for in `folder/networks/MODEL` and `folder/../weights/MODEL`, where stage `weights` pins them; else its
    weights are obtained as the run obtained them.

    Raises:
        UserError: config.json names no network, or its weights cannot be had or are others.
    """
    about = config.get("models", {}).get(model, {})
    if not about.get("backbone"):
        raise UserError(
            f"The SAE in '{folder}' names no network for '{model}': it was fitted on plain activations. Give "
            "`sae.encode` the activations of that network."
        )
    identity, reading = identity_from(about["backbone"]), {key: about[key] for key in ("layer", "grid", "norm")}
    for pinned in (folder / NETWORKS / model, folder.parent / "weights" / model):
        if (pinned / CONFIG).is_file() and read_identity(pinned).sha256 == identity.sha256:
            return Backbone.load(pinned, **reading)
    return Backbone(_built_again(identity, int(config.get("seed", 0)), folder, model), identity, **reading)


def _built_again(identity: Identity, seed: int, folder: Path, model: str) -> nn.Module:
    """From the hub, this package, a checkpoint's path, or a seed: whatever gave it its weights."""
    name = identity.timm or str(identity.factory)
    wanted = f"The network of '{model}' ('{name}', weights: {identity.weights})"
    where = f"'{folder / NETWORKS / model}' and '{folder.parent / 'weights' / model}'"
    if identity.weights.startswith("pretrain:"):
        raise UserError(f"{wanted} was trained by its run and is neither in {where}; copy it there.")
    keys = ("timm", "factory", "kwargs", "replace", "weights")
    try:
        network = trained(BackboneParams(**{key: getattr(identity, key) for key in keys}), seed)
    except UserError as error:
        raise UserError(f"{wanted} is neither in {where}, nor to be had anew: {error}") from error
    if (found := hashlib.sha256(weight_bytes(network)).hexdigest()) != identity.sha256:
        raise UserError(
            f"{wanted} can be built, but with other weights (SHA-256 {found[:12]}..., the SAE was trained on "
            f"{identity.sha256[:12]}...). Copy the run's `data/weights/{model}` to '{folder / NETWORKS / model}'."
        )
    return network
