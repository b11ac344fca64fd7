"""The three tiny backbones of the demo: two transformers (XCiT) and a convolutional network."""

from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from usae.backbones.networks.timm_import import timm

ObjectiveName = Literal["supervised", "distilled", "language"]

ARCHITECTURES: dict[ObjectiveName, dict[str, Any]] = {
    "supervised": {
        "timm": "xcit_nano_12_p8_224",
        "kwargs": {"img_size": 64, "embed_dim": 96, "depth": 3, "cls_attn_layers": 0, "num_classes": 0},
        "layer": 2,
    },
    "distilled": {
        "timm": "xcit_nano_12_p8_224",
        "kwargs": {"img_size": 64, "embed_dim": 112, "depth": 2, "cls_attn_layers": 0, "num_classes": 0},
        "layer": 1,
    },
    "language": {
        "timm": "resnet10t",
        "kwargs": {"stem_width": 16, "channels": [24, 48, 64, 96], "output_stride": 8, "num_classes": 0},
        "layer": 4,
    },
}


def untrained(objective: ObjectiveName, seed: int) -> nn.Module:
    """The backbone of `objective` with the random weights that `seed` gives."""
    architecture = ARCHITECTURES[objective]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone: nn.Module = timm.create_model(architecture["timm"], **architecture["kwargs"])
    return backbone


def normalised(backbone: nn.Module, pixels: Tensor) -> Tensor:
    """RGB in 0..1 [b, 3, s, s] to the input that the backbone's timm name expects."""
    config: dict[str, Any] = cast(Any, backbone).pretrained_cfg
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    return (pixels - mean) / std


def width_of(backbone: nn.Module) -> int:
    """Channels of the tokens."""
    return int(cast(int, backbone.num_features))


def final_tokens(backbone: nn.Module, pixels: Tensor) -> Tensor:
    """Tokens behind the last block and its norm, [b, 3, s, s] in 0..1 to [b, t, d]."""
    inputs = normalised(backbone, pixels)
    maps: list[Tensor] = cast(Any, backbone).forward_intermediates(
        inputs, indices=1, norm=True, intermediates_only=True
    )
    last = maps[-1]  # (images, width, grid, grid)
    return last.flatten(2).transpose(1, 2)  # (images, tokens, width)
