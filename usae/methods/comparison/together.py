"""R2 from codes of several models: all but the target, and all with it (modes `others` and `joint`).

The second has seen what it reconstructs, so it is no translation: it stands beside to show what that is worth.
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from usae.activations.store import ActivationStore, image_spans
from usae.evidence.metrics.reconstruction.r2 import Reconstruction
from usae.evidence.metrics.summary import HELD_OUT
from usae.sae.estimator import Concepts
from usae.sae.levels import Levels
from usae.sae.sparse import SparseCodes

OTHERS, JOINT = "others", "joint"
BLOCK_IMAGES = 64


@runtime_checkable
class HasPreCodes(Protocol):
    """A method that chooses codes from pre-codes of each model."""

    @property
    def levels(self) -> Levels:
        """Of its concepts."""
        ...

    def pre_codes(self, model: str, tokens: Tensor) -> Tensor:
        """Of raw activations."""
        ...


@runtime_checkable
class ReadsTogether(HasPreCodes, Protocol):
    """One with a way of its own to read several models at once."""

    def together(self, pre: Mapping[str, Tensor], target: str) -> SparseCodes:
        """Codes that reconstruct `target` from the pre-codes of some models."""
        ...


def together(method: HasPreCodes, pre: Mapping[str, Tensor], target: str) -> SparseCodes:
    """Codes that reconstruct `target` from pre-codes of some models: the method's own, or those of their mean."""
    if isinstance(method, ReadsTogether):
        return method.together(pre, target)
    return method.levels.top_k(torch.stack(list(pre.values())).mean(0))


@torch.inference_mode()
def r2_together(concepts: Concepts, stores: Mapping[str, ActivationStore]) -> dict[tuple[str, str], float]:
    """(mode, target) -> R2 about the channel means, on all images of `stores`.

    Nothing where a method has no pre-codes to put together, or one model.
    """
    if len(stores) < 2 or not isinstance(concepts, HasPreCodes):
        return {}
    table = Reconstruction(HELD_OUT, HELD_OUT)
    images = min(store.images for store in stores.values())
    for span in image_spans(range(images), BLOCK_IMAGES):
        raw = {
            model: torch.from_numpy(store.take(np.asarray(span)).astype(np.float32)).to(concepts.device)
            for model, store in stores.items()
        }
        pre = {model: concepts.pre_codes(model, own) for model, own in raw.items()}
        for target in stores:
            truth = concepts.standardise(target, raw[target]).float().cpu().numpy()
            modes = {JOINT: pre, OTHERS: {model: own for model, own in pre.items() if model != target}}
            codes = {mode: together(concepts, seen, target) for mode, seen in modes.items()}
            table.update(
                target, truth, [(m, concepts.decode(target, z).float().cpu().numpy()) for m, z in codes.items()]
            )
    rows = table.rows([OTHERS, JOINT, *stores])
    return {(str(row["source"]), str(row["target"])): float(str(row["r2_channel"])) for row in rows}
