"""Pretrained networks behind one call: RGB pixels in, tokens of the common grid out.

Stage `weights` builds a network, loads its weights strictly and pins both in `data/weights/<model>/`
(`model.safetensors`, `config.json`); `extract` and `maximise` load it from there, with no network access.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from usae.backbones.networks.building import CODE, construct, source_file
from usae.backbones.networks.feature_maps import check_layer, feature_maps, to_grid
from usae.backbones.networks.timm_import import resolve_model_data_config, timm
from usae.common.errors import UserError
from usae.common.files.json_files import read_json, write_json
from usae.common.files.whole import write_output
from usae.common.params import BackboneParams

WEIGHTS, CONFIG = "model.safetensors", "config.json"
IMAGENET: dict[str, Any] = {
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "interpolation": "bicubic",
}


@dataclass(frozen=True)
class Identity:
    """Everything needed to build a backbone again, and the pixels it expects."""

    timm: str | None
    factory: str | None
    kwargs: dict[str, Any]
    replace: dict[str, str]
    weights: str
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    parameters: int
    timm_version: str
    sha256: str  # of model.safetensors
    code_sha256: str | None = None  # of factory.py, where it was a file


class Backbone(nn.Module):
    """A frozen network that turns pixels into tokens.

    tokens: [b, 3, size, size] RGB in 0..1 -> [b, grid * grid, width]; differentiable in the pixels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, identity: Identity, *, layer: int | str, norm: bool, grid: int) -> None:
        super().__init__()
        self.network, self.identity = network.eval().requires_grad_(False), identity
        self.layer, self.norm, self.grid, self.size = layer, norm, grid, identity.size
        self.register_buffer("mean", torch.tensor(identity.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(identity.std).view(3, 1, 1), persistent=False)

    @classmethod
    def load(cls, folder: Path, layer: int | str = -1, grid: int = 14, norm: bool = True) -> "Backbone":
        """The backbone pinned in `folder`, reading `layer`.

        Raises:
            UserError: nothing is pinned there, what is has changed since, or the network has no such layer.
        """
        identity = read_identity(folder)
        _check_file(folder / WEIGHTS, identity.sha256)
        if identity.code_sha256 is not None:
            _check_file(folder / CODE, identity.code_sha256)
        network = construct(identity, folder)
        try:
            network.load_state_dict(load_file(folder / WEIGHTS), strict=True)
        except (SafetensorError, RuntimeError) as error:
            raise _damaged(folder, f"the weights are not those of the network that {CONFIG} describes") from error
        check_layer(network, layer, identity.size, identity.timm or str(identity.factory), norm)
        return cls(network, identity, layer=layer, norm=norm, grid=grid)

    def tokens(self, pixels: Float[Tensor, "b 3 size size"]) -> Float[Tensor, "b tokens d"]:
        """Activations of the layer on the common grid, class and register tokens left out."""
        return to_grid(self.maps(pixels), self.grid)

    def maps(self, pixels: Float[Tensor, "b 3 size size"]) -> Float[Tensor, "b d rows columns"]:
        """Activations of the layer on its own grid."""
        return self.joint_maps(pixels, [self.layer])[0]

    def joint_maps(
        self, pixels: Float[Tensor, "b 3 size size"], layers: Sequence[int | str]
    ) -> list[Float[Tensor, "b _ _ _"]]:
        """Activations of several layers, all numbers or all paths, in one forward pass."""
        normalised = (pixels - self.mean) / self.std  # (b, 3, size, size)
        return feature_maps(self.network, normalised, layers, self.norm)

    @property
    def call(self) -> tuple[nn.Module, bool, type]:
        """What layers have in common that one call of a network gives: the network, its final norm or not, and
        numbers or paths.
        """
        return self.network, self.norm, type(self.layer)

    def at(self, layer: int | str, norm: bool) -> "Backbone":
        """The same network, read at another layer.

        Raises:
            UserError: it has no such layer, or no such norm.
        """
        check_layer(self.network, layer, self.size, self.identity.timm or str(self.identity.factory), norm)
        return Backbone(self.network, self.identity, layer=layer, norm=norm, grid=self.grid).to(self.mean.device)


def identity_of(
    backbone: BackboneParams, network: nn.Module, sha256: str = "", code_sha256: str | None = None
) -> Identity:
    """What `network`, built from `backbone`, is: how to build it again, and the pixels it expects.

    Raises:
        UserError: a factory's network, and params.yaml, leave its input size unsaid.
    """
    return Identity(
        **backbone.model_dump(include={"timm", "factory", "kwargs", "replace", "weights"}),
        **_data_config(backbone, network),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        timm_version=timm.__version__,
        sha256=sha256,
        code_sha256=code_sha256,
    )


def pin(backbone: BackboneParams, folder: Path, network: nn.Module) -> Identity:
    """Write `network` (built by `build`, weights loaded) and its identity to `folder`."""
    code = None
    if (source := source_file(backbone.factory)) is not None:
        write_output(folder / CODE, source.read_bytes())
        code = _sha256(folder / CODE)
    write_output(folder / WEIGHTS, weight_bytes(network))
    identity = identity_of(backbone, network, _sha256(folder / WEIGHTS), code)
    write_json(folder / CONFIG, dataclasses.asdict(identity))
    return identity


def weight_bytes(network: nn.Module) -> bytes:
    """The weights of `network` as they are pinned."""
    return save(
        {name: value.clone().contiguous() for name, value in network.state_dict().items()}
    )  # shared ones too


def identity_from(raw: Mapping[str, Any]) -> Identity:
    """An identity that was read from JSON."""
    return Identity(**{**raw, "mean": tuple(raw["mean"]), "std": tuple(raw["std"])})


def is_pinned(folder: Path) -> bool:
    """Whether a backbone is pinned in `folder`."""
    return (folder / CONFIG).is_file()


def read_identity(folder: Path) -> Identity:
    """The identity pinned in `folder`.

    Raises:
        UserError: nothing is pinned there, or its description is damaged.
    """
    if not is_pinned(folder):
        raise UserError(f"There are no weights in {folder}; run `dvc repro {_stage(folder)}`.")
    try:
        return identity_from(read_json(folder / CONFIG))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise _damaged(folder, f"{CONFIG} is not whole: {error}") from error


def _check_file(file: Path, expected: str) -> None:
    """Weights and code must be those that were pinned: stores are named by them."""
    found = _sha256(file) if file.is_file() else "none: there is no such file"
    if found != expected:
        raise _damaged(
            file.parent,
            f"{file.name} should have the SHA-256 {expected[:12]}... that {CONFIG} has, found {found[:28]}",
        )


def _damaged(folder: Path, reason: str) -> UserError:
    return UserError(
        f"What is pinned in {folder} was changed or damaged ({reason}). `dvc checkout` brings back what was "
        f"pinned; `dvc repro -f -s {_stage(folder)}` pins it anew."
    )


def _stage(folder: Path) -> str:
    """The stage that pins a network there: those with random weights lie in `data/untrained/weights`."""
    untrained = folder.absolute().parent.parent.name == "untrained"
    return f"{'untrained' if untrained else 'weights'}@{folder.name}"


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _data_config(backbone: BackboneParams, network: nn.Module) -> dict[str, Any]:
    """Input size and normalisation: what params say, else the network's own, else ImageNet's."""
    config = dict(IMAGENET)
    if hasattr(network, "pretrained_cfg"):
        config |= resolve_model_data_config(network)
        config["size"] = backbone.kwargs.get("img_size", config.pop("input_size")[-1])
    given = {key: getattr(backbone, key) for key in ("size", "mean", "std", "interpolation")}
    resolved: dict[str, Any] = {key: config.get(key) if value is None else value for key, value in given.items()}
    if resolved["size"] is None:
        raise UserError(
            f"'{backbone.factory}' does not say its input size; add `size: PIXELS` to its backbone in params.yaml."
        )
    return resolved | {"mean": tuple(resolved["mean"]), "std": tuple(resolved["std"])}
