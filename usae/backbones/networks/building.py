"""From a backbone's parameters to a network: a timm name or a factory, and submodules put in its place."""

import difflib
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

from torch import nn

from usae.backbones.networks.timm_import import timm
from usae.common.errors import UserError
from usae.common.params import BackboneParams

CODE = "factory.py"


class Blueprint(Protocol):
    """How to build a network: what `BackboneParams` and `Identity` have in common."""

    @property
    def timm(self) -> str | None:
        """Full timm name, or None."""
        ...

    @property
    def factory(self) -> str | None:
        """'module:callable' or 'file.py:callable' where there is no timm name."""
        ...

    @property
    def kwargs(self) -> dict[str, Any]:
        """Arguments of either."""
        ...

    @property
    def replace(self) -> dict[str, str]:
        """Path of a submodule -> the factory of what is put in its place."""
        ...


def build(backbone: BackboneParams) -> nn.Module:
    """The network of `backbone`; weights from the hub when it says so, otherwise as initialised.

    Raises:
        UserError: no such timm name or factory, or arguments it does not take.
    """
    return construct(backbone, Path(), pretrained=backbone.weights == "hub")


def construct(blueprint: Blueprint, folder: Path, pretrained: bool = False) -> nn.Module:
    """Build the network of `blueprint`; `folder`: where a pinned factory lies.

    Raises:
        UserError: see `build`.
    """
    name, factory, kwargs = blueprint.timm, blueprint.factory, blueprint.kwargs
    try:
        if name is not None:
            network = timm.create_model(name, pretrained=pretrained, **kwargs)
        else:
            network = _callable(cast(str, factory), folder)(**kwargs)
    except (TypeError, RuntimeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        guess = timm_guess(name) if name is not None else ""
        raise UserError(
            f"'{name or factory}' could not be built with {kwargs}: {type(error).__name__}: {error}".rstrip(".")
            + f".{guess}"
        ) from error
    if not isinstance(network, nn.Module):
        raise UserError(f"The factory '{factory}' should give a torch module, found a {type(network).__name__}.")
    for submodule, replacement in blueprint.replace.items():
        network.set_submodule(submodule, _callable(replacement, folder)())
    return network


def timm_guess(name: str) -> str:
    """' Did you mean ...?' with timm's closest names, or the weights that it has; '' where it knows `name`."""
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        return f" Did you mean {' or '.join(close)}?" if close else ""
    tags = [full for full in timm.list_pretrained(f"{architecture}*") if full.split(".")[0] == architecture]
    return f" timm has the weights {', '.join(tags)}." if tag and name not in tags else ""


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


def source_file(factory: str | None) -> Path | None:
    """The Python file that a factory 'file.py:callable' names; None for a module."""
    home = (factory or "").split(":")[0]
    return Path(home) if home.endswith(".py") else None
