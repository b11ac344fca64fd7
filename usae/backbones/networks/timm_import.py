"""`timm`, importable beside a CPU-only torch: every module of this package takes it from here.

timm imports torchvision, and PyPI's Linux torchvision is linked against CUDA. Beside a CPU-only torch its
C++ operators cannot load, and torchvision stops at the registration of two of them (`nms`, `qnms`). Declaring
their schemas first is enough; where the real operators load, nothing is done. Images are decoded with Pillow,
so the missing operators are never called.
"""

import importlib.util
from pathlib import Path

import torch

from usae.common.runtime.compiler import postpone_compiler, without_utilities

SCHEMA = "{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
OPERATORS = ("nms", "qnms")


def native_operators() -> bool:
    """True when torchvision's compiled operators load beside this torch."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    for library in Path(spec.origin).parent.glob("_C.*"):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            return False
    return hasattr(torch.ops.torchvision, "nms")


def declare_operators() -> torch.library.Library | None:
    """Declare the schemas torchvision expects; None (and no effect) when the real ones are there."""
    if native_operators():
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in OPERATORS:
        library.define(SCHEMA.format(name=name))
    return library


_DECLARED = declare_operators()  # kept: the schemas vanish with the object
postpone_compiler()

with without_utilities():  # only now can torchvision, and with it timm, be imported
    import timm
    from timm.data.config import resolve_model_data_config
    from timm.models import FeatureInfo

__all__ = ["FeatureInfo", "declare_operators", "native_operators", "resolve_model_data_config", "timm"]
