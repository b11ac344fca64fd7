"""The checkpoints that come with the package: half precision on disk, full precision in memory."""

from importlib.resources import files
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from usae.backbones.weights.pretraining.architectures import ARCHITECTURES, ObjectiveName
from usae.common.errors import UserError
from usae.common.files.whole import write_output


def shipped(objective: ObjectiveName) -> dict[str, Tensor]:
    """The trained weights of `ARCHITECTURES[objective]` as float32 tensors.

    Raises `UserError` when there is no such checkpoint.
    """
    if objective not in ARCHITECTURES:
        raise UserError(
            f"No checkpoint '{objective}' comes with the package; there are {', '.join(ARCHITECTURES)}."
        )
    data = files("usae.backbones.weights").joinpath("shipped", f"{objective}.safetensors").read_bytes()
    return {name: tensor.float() for name, tensor in load(data).items()}


def save_half(backbone: nn.Module, path: Path) -> None:
    """Writes the backbone's weights in float16; equal weights give equal bytes."""
    half = {name: tensor.detach().to(torch.float16).contiguous() for name, tensor in backbone.state_dict().items()}
    write_output(path, save(half))
