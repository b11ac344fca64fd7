"""What every method of finding shared concepts gives once it is trained: all that stages after `train` ask."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from usae.sae.sparse import SparseCodes


@runtime_checkable
class Estimator(Protocol):
    """Concepts of several models in one numbering: codes from each model, a dictionary for each model.

    models: slugs, in order. widths: of their activations. concepts: c. k: codes per token.
    """

    models: tuple[str, ...]
    widths: dict[str, int]
    concepts: int
    k: int

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    def standardise(self, model: str, tokens: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """Raw activations in the units in which they are reconstructed."""
        ...

    def encode(self, tokens: Mapping[str, Float[Tensor, "... _"]]) -> dict[str, SparseCodes]:
        """Codes of raw activations, by model: paired tokens of some or all of the models.

        Given one model alone, its codes are made from that model alone; that is how stages `encode` and `measure`
        ask. A method that reads several models at once may do so where it is given several.
        """
        ...

    def decode(self, model: str, codes: SparseCodes) -> Float[Tensor, "... d"]:
        """Reconstruction of `model` from anyone's codes, in standardised units."""
        ...

    def dictionary(self, model: str) -> Float[Tensor, "c d"]:
        """The concepts of `model` as directions of unit norm."""
        ...

    def to(self, device: torch.device) -> Self:
        """On another device."""
        ...

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights and `config.json`; the same estimator gives the same bytes.

        Every method but the universal SAE names itself there, `"method": NAME`, and its class is `ESTIMATOR` of
        `usae/methods/NAME.py`: that is how the stages after `train` open it.
        """
        ...

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """What `save_pretrained` wrote."""
        ...
