"""The map of a network's layer, asked without its weights: on torch's "meta" device, which computes shapes alone.

Used by `usae check`, `usae start`, and by stages `extract` and `untrained` before they fill a disk.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from usae.backbones.networks.backbone import identity_of
from usae.backbones.networks.building import construct
from usae.backbones.networks.feature_maps import check_layer, feature_map
from usae.common.errors import UserError
from usae.common.params import BackboneParams, ModelParams, Params

MOST_ENLARGED = 4  # a grid so many times finer than the finest map is a slip of the pen


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


def outlined(model: ModelParams) -> tuple[nn.Module, Outline]:
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


def finest(networks: Mapping[str, Outline]) -> str:
    """The slug of the model whose layer has most places."""
    return max(networks, key=lambda slug: networks[slug].side)


def grid_fault(grid: int, networks: Mapping[str, Outline]) -> str:
    """Why so fine a grid is refused; empty where it is not."""
    slug = finest(networks)
    native, side = f"{networks[slug].rows} x {networks[slug].columns} (`{slug}`)", networks[slug].side
    if grid <= MOST_ENLARGED * side:
        return ""
    return (
        f"`extract.grid` is {grid}, more than {MOST_ENLARGED} times the finest map of the models, {native}. "
        f"That makes large stores and adds no detail; set it to {side} or less."
    )


def refuse_fine_grid(params: Params, model: str) -> None:
    """See that the common grid suits a map of the models; `model`, asked first, nearly always has one.

    Raises:
        UserError: all maps are far coarser.
    """
    networks: dict[str, Outline] = {}
    for slug in dict.fromkeys((model, *params.models)):
        networks[slug] = outlined(params.zoo[slug])[1]
        if not (fault := grid_fault(params.extract.grid, networks)):
            return
    raise UserError(fault)
