"""What a method of finding shared concepts gives to training, whatever its step does.

A step of the universal SAE encodes one model, its source; others encode all models at once. Which it is, the
method knows alone. So methods of either kind train side by side, on the same batches and from one checkpoint.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from usae.activations.sampling import PairedActivations
from usae.activations.store.manifests import Manifest
from usae.common.params import Kernels, TrainParams
from usae.common.runtime.ranks import Ranks
from usae.common.variant import Variant
from usae.sae.estimator import Estimator
from usae.training.loop.schedule import Schedule

ALL_MODELS = "all"  # what a step is about that has no source


@dataclass(frozen=True)
class Update:
    """What one step did; its numbers may still be on the device.

    about: slug of the model that was encoded, or `all`. gradient_norm: before clipping. r2: of the step's own
    reconstructions, a model's from itself and from others; None where it was not asked for.
    """

    about: str
    rate: float
    loss: Float[Tensor, ""]
    reconstruction: Float[Tensor, ""]
    gradient_norm: Float[Tensor, ""]
    r2: Float[Tensor, "2"] | None = None


class Method(Protocol):
    """An estimator in training."""

    def start(self) -> Estimator:
        """A copy as it is before its first step, for use: in eval mode, what it normalises by calibrated."""
        ...

    def finished(self) -> Estimator:
        """The estimator as it is now, for use: in eval mode."""
        ...

    def step(self, tokens: Mapping[str, Float[Tensor, "n _"]], step: int, scored: bool) -> Update:
        """One update on raw rows of every model; `scored`: with R2. A function of `step` and what was before."""
        ...

    def state(self) -> dict[str, Any]:
        """Everything that the next steps depend on: tensors and plain values."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, to the bit."""
        ...


@dataclass(frozen=True)
class Start:
    """What a method starts from. data and manifests: of its own models, in its order.

    kept: folder for what takes long to find and is the same when the run goes on; None: there is none. kernels: of
    the step's sparse products on a GPU.
    """

    variant: Variant
    manifests: Mapping[str, Manifest]
    data: PairedActivations
    params: TrainParams
    schedule: Schedule
    ranks: Ranks
    device: torch.device
    kept: Path | None = None
    kernels: Kernels = "auto"
