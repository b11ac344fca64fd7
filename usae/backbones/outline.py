"""What a network would give, asked without its weights: the map of its layer, and whether weights can be had.

Used by `usae check` and `usae start`.
"""

from pathlib import Path

from torch import nn

from usae.backbones.networks.timm_import import timm
from usae.backbones.shapes import Outline, outlined
from usae.backbones.weights.checkpoints import read_checkpoint, refuse_misfit
from usae.backbones.weights.obtaining import objective_of
from usae.common.errors import UserError
from usae.common.params import BackboneParams, ModelParams


def outline(model: ModelParams) -> Outline:
    """The outline of a zoo's entry; of its weights, only a checkpoint file is read.

    Raises:
        UserError: it cannot be built, has no such layer, or its weights are not there or do not fit.
    """
    network, seen = outlined(model)
    check_weights(model.backbone, network)
    return seen


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
