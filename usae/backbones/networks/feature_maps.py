"""A layer's feature map from any network, as [b, d, h, w] without class and register tokens.

Used by `backbones`. A layer that has a name is a module of the network, read by a hook. For a number there are
three ways, the first that a network offers: timm's `forward_intermediates`; the list of maps of a network built
with `features_only: true`; a hook at the module that `feature_info` names.
"""

import difflib
import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from usae.backbones.networks.timm_import import FeatureInfo
from usae.common.errors import UserError

REFUSALS = (AssertionError, LookupError, RuntimeError, ValueError, TypeError, AttributeError)  # of networks
DEPTH, SUGGESTED = 1, 8  # dots in the names of modules that are tried, and how many are named

_COUNTS: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()  # layers of networks that were asked


class _ReachedError(Exception):
    """Ends a forward pass at the last hooked module."""


def feature_map(network: nn.Module, pixels: Tensor, layer: int | str, norm: bool) -> Tensor:
    """The map [b, d, h, w] of `layer`: a module's path; or a number, through the final norm if `norm` and where
    the network has one.

    Layers after the asked one are not computed where the network allows that.

    Raises:
        IndexError or AssertionError: there is no such layer; use `check_layer` first.
    """
    return feature_maps(network, pixels, [layer], norm)[0]


def feature_maps(network: nn.Module, pixels: Tensor, layers: Sequence[int | str], norm: bool) -> list[Tensor]:
    """The map of each of `layers`, all numbers or all paths, in one forward pass; else as `feature_map`."""
    paths = [layer for layer in layers if isinstance(layer, str)]
    if paths:
        return [as_map(output) for output in _reached(network, pixels, [{"module": path} for path in paths])]
    numbers = [layer for layer in layers if isinstance(layer, int)]
    info = getattr(network, "feature_info", ())
    if hasattr(network, "forward_intermediates"):
        return _intermediates(network, pixels, numbers, norm)
    if isinstance(info, FeatureInfo):
        return _listed(network, pixels, numbers)
    return _hooked(network, pixels, [info[number] for number in numbers])


def as_map(output: Any) -> Tensor:
    """What a module gives as [b, d, h, w]: a map as it is; of tokens [b, n, d] the last h * h, a square.

    Class and register tokens come first and are left out. Of several outputs the first counts.
    """
    first: Tensor = output if isinstance(output, Tensor) else output[0]
    if first.ndim != 3:
        return first
    side = math.isqrt(first.shape[1])
    maps: Tensor = first[:, -side * side :].transpose(1, 2).unflatten(2, (side, side))  # (b, d, side, side)
    return maps


def check_layer(network: nn.Module, layer: int | str, size: int, name: str, norm: bool = False) -> None:
    """Run one blank image of `size` pixels through `network` to see that it has `layer`; puts it in eval mode.

    Raises:
        UserError: it has not (the valid ones are named), or it cannot be asked for feature maps.
    """
    if isinstance(layer, str):
        return _check_module(network, layer, size, name)
    if not _readable(network):
        raise UserError(
            f"'{name}' has no `forward_intermediates`, timm's way to read a layer's feature map, and no "
            "`feature_info` that names its modules. For a timm network set `kwargs: {features_only: true}`; for "
            f"any other, `layer` should be the name of a module: {_suggested(network, size)}."
        )
    network.eval()  # or batch norms would take the blank image into their statistics
    outcome = _attempt(network, size, layer)
    if isinstance(outcome, Tensor):
        return _check_map(outcome, name, layer, _attempt(network, size, layer, norm))
    count = 0
    while isinstance(_attempt(network, size, count), Tensor):
        count += 1
    if not count or -count <= layer < count:
        raise UserError(
            f"'{name}' gives no feature map for an image of {size} pixels; does it take another size? "
            "Set `size` (and for transformers `kwargs: {img_size: ...}`) in its backbone. It says: " + outcome
        )
    raise UserError(
        f"'{name}' has no layer {layer}; it has {count} layers, so `layer` should be 0 to {count - 1} "
        f"or -{count} to -1."
    )


def _check_module(network: nn.Module, layer: str, size: int, name: str) -> None:
    """As `check_layer`, of a layer that is a module's path."""
    names = [each for each, _ in network.named_modules() if each]
    if layer not in names:
        close = difflib.get_close_matches(layer, names, n=3)
        guess = f"did you mean {' or '.join(close)}?" if close else f"there are {_suggested(network, size)}."
        raise UserError(f"'{name}' has no module '{layer}'; {guess}")
    network.eval()
    outcome = _attempt(network, size, layer)
    if isinstance(outcome, str):
        raise UserError(
            f"The module '{layer}' of '{name}' gives no feature map for an image of {size} pixels: {outcome}"
        )
    if len(outcome) != 1:
        raise UserError(
            f"The module '{layer}' of '{name}' should give images first; it gave {len(outcome)} for one."
        )
    _check_map(outcome, name, layer, outcome)


def _suggested(network: nn.Module, size: int) -> str:
    """The network's parts, and the parts of a part that is a list, that give maps: the last ones."""
    parts = [each for each, _ in network.named_modules() if each and each.count(".") <= DEPTH]
    network.eval()
    maps = {each: _attempt(network, size, each) for each in parts}
    found = [
        each for each, map_ in maps.items() if isinstance(map_, Tensor) and map_.ndim == 4 and map_.shape[-1] > 1
    ]
    return ", ".join(found[-SUGGESTED:]) or "none gives maps of an image of this size"


def _readable(network: nn.Module) -> bool:
    info = getattr(network, "feature_info", ())
    names = {name for name, _ in network.named_modules()}
    return (
        hasattr(network, "forward_intermediates")
        or isinstance(info, FeatureInfo)
        or (len(info) > 0 and all(entry["module"] in names for entry in info))
    )


def _attempt(network: nn.Module, size: int, layer: int | str, norm: bool = False) -> Tensor | str:
    """The layer's map of a blank image, or what the network says against it."""
    try:
        with torch.no_grad():
            maps = feature_map(network, _blank(network, size), layer, norm)
    except REFUSALS as error:
        return f"{type(error).__name__}: {error}"
    return maps if isinstance(maps, Tensor) else f"it gives a {type(maps).__name__}, not a tensor."


def _blank(network: nn.Module, size: int) -> Tensor:
    """An image where the network's weights are."""
    weights = next(network.parameters(), None)
    return torch.zeros(1, 3, size, size, device=None if weights is None else weights.device)


def _check_map(maps: Tensor, name: str, layer: int | str, normed: Tensor | str) -> None:
    if isinstance(normed, str):
        raise UserError(f"'{name}' cannot send its layers through a norm ({normed}); set `norm: false` for it.")
    if maps.is_complex():
        raise UserError(
            f"Layer {layer} of '{name}' gives complex numbers, of which a store would keep the real part alone; "
            "let its factory give `torch.view_as_real`, or their absolute values."
        )
    if maps.ndim == 4 and not maps.shape[1]:
        raise UserError(f"Layer {layer} of '{name}' gives maps without channels, {tuple(maps.shape)}.")
    if maps.ndim != 4:
        raise UserError(
            f"Layer {layer} of '{name}' should give maps [images, width, rows, columns]; "
            f"found the shape {tuple(maps.shape)}. Choose a layer that has places."
        )


def _intermediates(network: nn.Module, pixels: Tensor, layers: list[int], norm: bool) -> list[Tensor]:
    """Of several layers the network gives each once, in the order of its depth."""
    read = cast(Callable[..., list[Tensor]], network.forward_intermediates)
    early = {"stop_early": True} if "stop_early" in inspect.signature(read).parameters else {}
    options = {"norm": norm, "output_fmt": "NCHW", "intermediates_only": True}
    counted_from_both_ends = min(layers) < 0 <= max(layers)
    wanted = [layer % _count(network, pixels) for layer in layers] if counted_from_both_ends else layers
    depths = sorted(set(wanted))
    maps = dict(zip(depths, read(pixels, indices=depths, **options, **early), strict=True))
    return [maps[depth] for depth in wanted]


def _count(network: nn.Module, pixels: Tensor) -> int:
    """How many layers there are; the network is asked once."""
    if network not in _COUNTS:
        read = cast(Callable[..., list[Tensor]], network.forward_intermediates)
        every = read(pixels[:1], indices=None, norm=False, output_fmt="NCHW", intermediates_only=True)
        _COUNTS[network] = len(every)
    return _COUNTS[network]


def _listed(network: nn.Module, pixels: Tensor, layers: list[int]) -> list[Tensor]:
    maps: list[Tensor] = network(pixels)
    channels_last = getattr(network, "output_fmt", "NCHW") == "NHWC"
    return [maps[layer].permute(0, 3, 1, 2) if channels_last else maps[layer] for layer in layers]


def _hooked(network: nn.Module, pixels: Tensor, entries: list[dict[str, Any]]) -> list[Tensor]:
    outputs = _reached(network, pixels, entries)
    return [_joined(output, entry["num_chs"]) for output, entry in zip(outputs, entries, strict=True)]


def _reached(network: nn.Module, pixels: Tensor, entries: list[dict[str, Any]]) -> list[Any]:
    """What first enters or leaves each module; the pass ends at the last one."""
    outputs: dict[int, Any] = {}

    def keep(number: int, output: Any) -> None:
        more = len(outputs) + (number not in outputs) < len(entries)
        outputs.setdefault(number, _copied(output) if more else output)
        if not more:
            raise _ReachedError

    handles = [_hook(network, entry, functools.partial(keep, number)) for number, entry in enumerate(entries)]
    try:
        getattr(network, "forward_features", network)(pixels)
    except _ReachedError:
        return [outputs[number] for number in range(len(entries))]
    finally:
        for handle in handles:
            handle.remove()
    (missing, *_) = (entry["module"] for number, entry in enumerate(entries) if number not in outputs)
    raise RuntimeError(f"its forward pass never reaches the module '{missing}'")


def _hook(network: nn.Module, entry: dict[str, Any], keep: Callable[[Any], None]) -> RemovableHandle:
    module = network.get_submodule(entry["module"])
    if entry.get("hook_type") == "forward_pre":
        return module.register_forward_pre_hook(lambda _, inputs: keep(inputs[0]))
    return module.register_forward_hook(lambda _, __, output: keep(output))


def _copied(output: Any) -> Any:
    """Modules that follow may write in place."""
    if isinstance(output, Tensor):
        return output.clone()
    return [_copied(part) for part in output] if isinstance(output, list | tuple) else output


def _joined(output: Any, width: int) -> Tensor:
    """A module's output as one map; of several, all (dual-path networks) or the first are the layer."""
    if isinstance(output, Tensor):
        return output
    together = sum(part.shape[1] for part in output)
    return torch.cat(list(output), 1) if together == width else cast(Tensor, output[0])


def to_grid(maps: Float[Tensor, "b d h w"], grid: int) -> Float[Tensor, "b tokens d"]:
    """Feature maps -> tokens of the common grid, row by row; bilinear, antialiased, only where sizes differ.

    A grid of 1 is the mean over all places, as networks pool.
    """
    if grid == 1:
        return maps.mean((2, 3))[:, None]  # (b, 1, d)
    if maps.shape[-2:] != (grid, grid):
        maps = F.interpolate(maps, (grid, grid), mode="bilinear", antialias=True)  # (b, d, grid, grid)
    return maps.flatten(2).transpose(1, 2)  # (b, grid * grid, d)
