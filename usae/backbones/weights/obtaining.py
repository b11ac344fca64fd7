"""From an entry of `zoo:` to pinned weights: hub, checkpoint, random, shipped with the package, or trained here.

Used by stages `weights` and `untrained`. Networks of the generated world are also probed: do their tokens know
shapes, colours, textures and backgrounds better than the same network before training?
"""

import dataclasses
from pathlib import Path
from typing import cast

import torch
from torch import nn

from usae.backbones.networks.backbone import Backbone, Identity, pin
from usae.backbones.networks.building import build
from usae.backbones.weights.checkpoints import load_checkpoint, load_state
from usae.backbones.weights.pretraining import ARCHITECTURES, RECIPES, ObjectiveName, pretrain, shipped
from usae.backbones.weights.probes import probe_report, probe_scenes
from usae.common.errors import UserError
from usae.common.files.json_files import write_json
from usae.common.params import BackboneParams
from usae.common.seeds import seed_of
from usae.images.sources.shapes.scenes import GRID

PROBES = "probes.json"


def obtain(backbone: BackboneParams, folder: Path, seed: int) -> Identity:
    """Build the backbone, give it its weights, pin both in `folder`.

    Raises:
        UserError: it cannot be built, or its weights are absent or do not fit.
    """
    network = trained(backbone, seed)
    identity = pin(backbone, folder, network)
    if objective_of(backbone) is not None:
        report = _probe(backbone, network, identity, seed)
        write_json(folder / PROBES, {"probes": report}, indent=1)
    return identity


def obtain_untrained(backbone: BackboneParams, folder: Path, seed: int, model: str) -> Identity:
    """The same network as initialised, pinned in `folder`; each model draws its own weights, also of one kind."""
    return obtain(
        backbone.model_copy(update={"weights": "random"}), folder, seed_of(seed, "untrained network", model)
    )


def trained(backbone: BackboneParams, seed: int) -> nn.Module:
    """The network with its weights; random ones depend on `seed` alone."""
    torch.manual_seed(seed_of(seed, "random network"))
    kind, objective = backbone.weights.split(":")[0], objective_of(backbone)
    try:
        network = build(backbone)
    except OSError as error:
        raise UserError(
            f"The weights of '{backbone.timm}' could not be downloaded: {error}. Stage `weights` needs the "
            "network once; or give a checkpoint file as `weights`."
        ) from error
    if kind in ("hub", "random"):
        return network
    if objective is None:
        load_checkpoint(network, Path(backbone.weights))
    elif kind == "shipped":
        load_state(network, shipped(objective), f"shipped with this package for '{objective}'")
    else:
        network = pretrain(objective, network, seed=seed, **dataclasses.asdict(RECIPES[objective]))
    return network


def objective_of(backbone: BackboneParams) -> ObjectiveName | None:
    """The demo objective that `weights` names, if it does.

    Raises:
        UserError: it names one that there is not.
    """
    kind, _, name = backbone.weights.partition(":")
    if kind not in ("shipped", "pretrain"):
        return None
    if name not in ARCHITECTURES:
        raise UserError(
            f"`weights` is '{backbone.weights}'; the demo's objectives are {', '.join(ARCHITECTURES)}."
        )
    return name


def _probe(backbone: BackboneParams, network: nn.Module, identity: Identity, seed: int) -> list[dict[str, object]]:
    """Held-out probe AUCs of the network's last layer, and of the same network untrained."""
    untrained = trained(backbone.model_copy(update={"weights": "random"}), seed)
    readers = [Backbone(net, identity, layer=-1, norm=True, grid=GRID) for net in (network, untrained)]
    results = [probe_scenes(reader.tokens, seed=seed) for reader in readers]
    return cast(list[dict[str, object]], probe_report(*results).to_dict("records"))
