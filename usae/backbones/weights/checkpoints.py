"""Weights from a file into a network, strictly: every tensor named and shaped as the network has it."""

import pickle
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from usae.common.errors import UserError

UNREADABLE = (RuntimeError, OSError, EOFError, ValueError, LookupError, AttributeError, TypeError)


def load_checkpoint(network: nn.Module, path: Path) -> None:
    """Load a safetensors file or a torch state dict into `network`, strictly.

    Raises:
        UserError: no such file, unreadable, or it does not fit; all misfits are counted, the first ones named.
    """
    load_state(network, read_checkpoint(path), str(path))


def load_state(network: nn.Module, state: dict[str, Tensor], origin: str) -> None:
    """Load `state` strictly, in the network's own types; `origin` names it in errors (see `load_checkpoint`)."""
    refuse_misfit(network, state, origin)
    wanted = network.state_dict()
    network.load_state_dict({name: value.to(wanted[name].dtype) for name, value in state.items()}, strict=True)


def refuse_misfit(network: nn.Module, state: dict[str, Tensor], origin: str) -> None:
    """See that `state` has every tensor of `network` and no other; `network` may be without values ("meta").

    Raises:
        UserError: it has not; all misfits are counted, the first ones named.
    """
    if faults := _misfits(network.state_dict(), state):
        raise UserError.listing(f"The checkpoint '{origin}' does not fit {type(network).__name__}:", faults)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """A flat state dict from a safetensors file, or from a torch file (also below `state_dict` or `model`).

    Raises:
        UserError: no such file, or it is neither.
    """
    if not path.is_file():
        raise UserError(
            f"The checkpoint '{path}' does not exist here ({Path.cwd()}). Put or link it there, "
            "or change `weights` in params.yaml (hub | random | shipped:... | pretrain:... | a path)."
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, *UNREADABLE) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _no_checkpoint(path, reason) from error
    for key in ("state_dict", "model"):
        loaded = loaded[key] if isinstance(loaded, dict) and isinstance(loaded.get(key), dict) else loaded
    if not isinstance(loaded, dict):
        raise _no_checkpoint(path, f"it holds a {type(loaded).__name__}")
    if foreign := [str(name) for name, value in loaded.items() if not isinstance(value, Tensor)]:
        raise _no_checkpoint(path, f"not all of it are tensors: {_some(foreign)}")
    return cast(dict[str, Tensor], loaded)


def _no_checkpoint(path: Path, reason: str) -> UserError:
    return UserError(
        f"The checkpoint '{path}' is neither safetensors nor a plain torch state dict: {reason}. "
        "No code of it was run. Save `network.state_dict()`, and name that file as `weights` in params.yaml."
    )


def _misfits(wanted: dict[str, Tensor], given: dict[str, Tensor]) -> list[str]:
    missing, surplus = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    shapes = [
        f"`{name}` should be {tuple(wanted[name].shape)}, found {tuple(given[name].shape)}"
        for name in sorted(wanted.keys() & given.keys())
        if wanted[name].shape != given[name].shape
    ]
    faults = [f"{len(missing)} tensors are missing: {_some(missing)}"] if missing else []
    faults += [f"{len(surplus)} tensors are unknown to the network: {_some(surplus)}"] if surplus else []
    return faults + shapes[:8] + ([f"and {len(shapes) - 8} more shapes differ"] if len(shapes) > 8 else [])


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
