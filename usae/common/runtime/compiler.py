"""torch's compiler is loaded by whoever compiles: no stage does, and to load it takes one to two seconds.

timm, torchvision and torch's own optimisers load it only to say which functions it should leave alone.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

NAME = "torch._dynamo"
UTILITIES = f"{NAME}.utils"


class Postponed(ModuleType):
    """Stands for `torch._dynamo` until anything else is asked of it, which loads the real one."""

    def disable(self, function: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Any:
        """`function` itself, or what gives it back: nothing is compiled so far."""
        return function or (lambda given: given)

    def graph_break(self, *_: Any, **__: Any) -> None:
        """Nothing: there is no graph."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # looked for in every module, by `inspect`
            raise AttributeError(name)
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
            importlib.import_module(NAME)
        return getattr(sys.modules[NAME], name)


def postpone_compiler() -> None:
    """From now on it is loaded on demand, where it is not loaded yet."""
    if NAME not in sys.modules:
        sys.modules[NAME] = torch._dynamo = Postponed(NAME)


@contextmanager
def without_utilities() -> Iterator[None]:
    """While torchvision is imported: of the compiler's utilities it takes one, which it calls in no stage."""
    if UTILITIES in sys.modules:
        yield
        return
    sys.modules[UTILITIES] = ModuleType(UTILITIES)
    sys.modules[UTILITIES].is_compile_supported = None  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del sys.modules[UTILITIES]
