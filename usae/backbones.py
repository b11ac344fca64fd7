"""Pretrained networks behind one call: RGB pixels in, tokens of the common grid out.

Stage `weights` builds a network, loads its weights strictly and pins both in `data/weights/<model>/`
(`model.safetensors`, `config.json`); `extract` and `maximise` load it from there, with no network access.
"""

import dataclasses
import hashlib
import importlib
import importlib.util
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from usae.compat import resolve_model_data_config, timm
from usae.errors import UserError
from usae.feature_maps import check_layer, feature_map
from usae.geometry import to_grid
from usae.params import BackboneParams

WEIGHTS, CONFIG, CODE = "model.safetensors", "config.json", "factory.py"
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


class Backbone(nn.Module):
    """A frozen network that turns pixels into tokens.

    tokens: [b, 3, size, size] RGB in 0..1 -> [b, grid * grid, width]; differentiable in the pixels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, identity: Identity, *, layer: int, norm: bool, grid: int) -> None:
        super().__init__()
        self.network, self.identity = network.eval().requires_grad_(False), identity
        self.layer, self.norm, self.grid, self.size = layer, norm, grid, identity.size
        self.register_buffer("mean", torch.tensor(identity.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(identity.std).view(3, 1, 1), persistent=False)

    @classmethod
    def load(cls, folder: Path, layer: int = -1, grid: int = 14, norm: bool = True) -> "Backbone":
        """The backbone pinned in `folder`, reading `layer`.

        Raises:
            UserError: nothing is pinned there, or the network has no such layer.
        """
        identity = read_identity(folder)
        network = _construct(identity.timm, identity.factory, identity.kwargs, identity.replace, folder)
        network.load_state_dict(load_file(folder / WEIGHTS), strict=True)
        check_layer(network, layer, identity.size, identity.timm or str(identity.factory), norm)
        return cls(network, identity, layer=layer, norm=norm, grid=grid)

    def tokens(self, pixels: Float[Tensor, "b 3 size size"]) -> Float[Tensor, "b tokens d"]:
        """Activations of the layer on the common grid, class and register tokens left out."""
        return to_grid(self.maps(pixels), self.grid)

    def maps(self, pixels: Float[Tensor, "b 3 size size"]) -> Float[Tensor, "b d rows columns"]:
        """Activations of the layer on its own grid."""
        normalised = (pixels - self.mean) / self.std  # (b, 3, size, size)
        return feature_map(self.network, normalised, self.layer, self.norm)


def identity_of(backbone: BackboneParams, network: nn.Module, sha256: str = "") -> Identity:
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
    )


def pin(backbone: BackboneParams, folder: Path, network: nn.Module) -> Identity:
    """Write `network` (built by `build`, weights loaded) and its identity to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    if (source := _source_file(backbone.factory)) is not None:
        shutil.copyfile(source, folder / CODE)
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(state, folder / WEIGHTS)
    sha256 = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    identity = identity_of(backbone, network, sha256)
    (folder / CONFIG).write_text(json.dumps(dataclasses.asdict(identity), indent=2) + "\n")
    return identity


def read_identity(folder: Path) -> Identity:
    """The identity pinned in `folder`.

    Raises:
        UserError: nothing is pinned there.
    """
    if not (folder / CONFIG).is_file():
        raise UserError(f"There are no weights in {folder}; run `dvc repro weights@{folder.name}`.")
    raw = json.loads((folder / CONFIG).read_text())
    return Identity(**{**raw, "mean": tuple(raw["mean"]), "std": tuple(raw["std"])})


def build(backbone: BackboneParams) -> nn.Module:
    """The network of `backbone`; weights from the hub when it says so, otherwise as initialised.

    Raises:
        UserError: no such timm name or factory, or arguments it does not take.
    """
    hub = backbone.weights == "hub"
    return _construct(backbone.timm, backbone.factory, backbone.kwargs, backbone.replace, Path(), pretrained=hub)


def load_checkpoint(network: nn.Module, path: Path) -> None:
    """Load a safetensors file or a torch state dict into `network`, strictly.

    Raises:
        UserError: no such file, unreadable, or it does not fit; all misfits are counted, the first ones named.
    """
    if not path.is_file():
        raise UserError(
            f"The checkpoint '{path}' does not exist here ({Path.cwd()}). Put or link it there, "
            "or change `weights` in params.yaml (hub | random | shipped:... | pretrain:... | a path)."
        )
    load_state(network, read_checkpoint(path), str(path))


def load_state(network: nn.Module, state: dict[str, Tensor], origin: str) -> None:
    """Load `state` strictly, in the network's own types; `origin` names it in errors (see `load_checkpoint`)."""
    wanted = network.state_dict()
    if faults := _misfits(wanted, state):
        raise UserError.listing(f"The checkpoint '{origin}' does not fit {type(network).__name__}:", faults)
    network.load_state_dict({name: value.to(wanted[name].dtype) for name, value in state.items()}, strict=True)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """A flat state dict from a safetensors file, or from a torch file (also below `state_dict` or `model`)."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise UserError(
            f"The checkpoint '{path}' is neither safetensors nor a plain torch state dict: {error}"
        ) from error
    for key in ("state_dict", "model"):
        loaded = loaded[key] if isinstance(loaded.get(key), dict) else loaded
    return cast(dict[str, Tensor], loaded)


def _construct(
    name: str | None,
    factory: str | None,
    kwargs: dict[str, Any],
    replacements: dict[str, str],
    folder: Path,
    pretrained: bool = False,
) -> nn.Module:
    try:
        if name is not None:
            network = timm.create_model(name, pretrained=pretrained, **kwargs)
        else:
            network = _callable(cast(str, factory), folder)(**kwargs)
    except (TypeError, RuntimeError, ValueError) as error:
        raise UserError(f"'{name or factory}' could not be built with {kwargs}: {error}") from error
    for place, replacement in replacements.items():
        network.set_submodule(place, _callable(replacement, folder)())
    return network


def _callable(name: str, folder: Path) -> Callable[..., nn.Module]:
    """'module:callable', or 'file.py:callable' (the pinned copy in `folder` first)."""
    home, attribute = name.split(":")
    try:
        if home.endswith(".py"):
            pinned = folder / CODE
            module = _module_from(pinned if pinned.is_file() else Path(home))
        else:
            module = importlib.import_module(home)
        return cast(Callable[..., nn.Module], getattr(module, attribute))
    except (ImportError, FileNotFoundError, AttributeError) as error:
        raise UserError(
            f"The factory '{name}' could not be found: {error}. Expected 'module:callable' with an importable "
            "module, or 'file.py:callable' with a file path relative to the repository."
        ) from error


def _module_from(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"usae_factory_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"no file '{path}'")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _source_file(factory: str | None) -> Path | None:
    home = (factory or "").split(":")[0]
    return Path(home) if home.endswith(".py") else None


def _data_config(backbone: BackboneParams, network: nn.Module) -> dict[str, Any]:
    """Input size and normalisation: what params say, else the network's own, else ImageNet's."""
    known = dict(IMAGENET)
    if hasattr(network, "pretrained_cfg"):
        known |= resolve_model_data_config(network)
        known["size"] = backbone.kwargs.get("img_size", known.pop("input_size")[-1])
    said = {key: getattr(backbone, key) for key in ("size", "mean", "std", "interpolation")}
    resolved: dict[str, Any] = {key: known.get(key) if value is None else value for key, value in said.items()}
    if resolved["size"] is None:
        raise UserError(
            f"'{backbone.factory}' does not say its input size; add `size: PIXELS` to its backbone in params.yaml."
        )
    return resolved | {"mean": tuple(resolved["mean"]), "std": tuple(resolved["std"])}


def _misfits(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> list[str]:
    missing, surplus = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    shapes = [
        f"`{name}` should be {tuple(wanted[name].shape)}, found {tuple(found[name].shape)}"
        for name in sorted(wanted.keys() & found.keys())
        if wanted[name].shape != found[name].shape
    ]
    faults = [f"{len(missing)} tensors are missing: {_some(missing)}"] if missing else []
    faults += [f"{len(surplus)} tensors are unknown to the network: {_some(surplus)}"] if surplus else []
    return faults + shapes[:8] + ([f"and {len(shapes) - 8} more shapes differ"] if len(shapes) > 8 else [])


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
