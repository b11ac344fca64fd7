"""What a network would give, asked without its weights: the map of its layer, and whether weights can be had.

Used by `usae check` and `usae start`. Networks are built on torch's "meta" device, which computes shapes alone.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from usae.backbones.networks.backbone import identity_of
from usae.backbones.networks.building import construct
from usae.backbones.networks.feature_maps import check_layer, feature_map
from usae.backbones.networks.timm_import import timm
from usae.backbones.weights.checkpoints import read_checkpoint, refuse_misfit
from usae.backbones.weights.obtaining import objective_of
from usae.common.errors import UserError
from usae.common.params import BackboneParams, ModelParams


@dataclass(frozen=True)
class Outline:
    """A layer's own map of one image of `size` pixels: `width` channels on `rows` x `columns` places."""

    name: str
    size: int
    width: int
    rows: int
    columns: int
    parameters: int

    @property
    def side(self) -> int:
        """Rows or columns, whichever are more."""
        return max(self.rows, self.columns)

    def __str__(self) -> str:
        places = f"{self.rows} x {self.columns} places of width {self.width}"
        return f"{self.name}, {self.size} pixels in, {places}, {self.parameters / 1e6:.1f} million parameters"


def outline(model: ModelParams) -> Outline:
    """The outline of a zoo's entry; of its weights, only a checkpoint file is read.

    Raises:
        UserError: it cannot be built, has no such layer, or its weights are not there or do not fit.
    """
    network, seen = _outlined(model)
    check_weights(model.backbone, network)
    return seen


def bare(backbone: BackboneParams, device: str = "meta") -> nn.Module:
    """The network as a set of names and shapes.

    Raises:
        UserError: it cannot be built.
    """
    try:
        with torch.device(device):
            return construct(backbone, Path())
    except OSError as error:
        raise UserError(f"'{backbone.timm}' could not be asked of the hub: {error}.") from error


def check_weights(backbone: BackboneParams, network: nn.Module) -> None:
    """See that the weights can be had, as far as this machine can tell: the hub itself is not asked.

    Raises:
        UserError: timm knows no weights of that name; the checkpoint is not there or does not fit; no objective.
    """
    if backbone.weights == "hub":
        _check_hub(backbone.timm)
    elif backbone.weights != "random" and objective_of(backbone) is None:
        refuse_misfit(network, read_checkpoint(Path(backbone.weights)), backbone.weights)


def _check_hub(name: str | None) -> None:
    """A factory brings its own weights, and another hub's names are not known here."""
    if name is not None and ":" not in name and not timm.is_model_pretrained(name):
        raise UserError(f"timm knows no weights for '{name}'; give a checkpoint's path as `weights`, or `random`.")


def _outlined(model: ModelParams) -> tuple[nn.Module, Outline]:
    """On "meta", and where a network needs values to be built or read, with random ones."""
    try:
        return _on(model, "meta")
    except UserError:
        return _on(model, "cpu")


def _on(model: ModelParams, device: str) -> tuple[nn.Module, Outline]:
    network = bare(model.backbone, device)
    identity = identity_of(model.backbone, network)
    name = identity.timm or str(identity.factory)
    with torch.device(device), torch.no_grad():
        check_layer(network, model.layer, identity.size, name, model.norm)
        maps = feature_map(network, torch.zeros(1, 3, identity.size, identity.size), model.layer, model.norm)
    _, width, rows, columns = maps.shape
    return network, Outline(name, identity.size, width, rows, columns, identity.parameters)
