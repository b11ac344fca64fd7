"""What every method of finding shared concepts gives: all that stages after `train` ask."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from usae.sae.sparse import SparseCodes


class Concepts(Protocol):
    """Concepts of several models in one numbering: codes from each model, a dictionary for each model. What the
    measures ask of anything.

    models: slugs, in order. widths: of their activations. concepts: c. k: codes per token.
    """

    @property
    def models(self) -> tuple[str, ...]:
        """Slugs."""
        ...

    @property
    def widths(self) -> dict[str, int]:
        """By slug."""
        ...

    @property
    def concepts(self) -> int:
        """How many."""
        ...

    @property
    def k(self) -> int:
        """Of a token and model, at most."""
        ...

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


@runtime_checkable
class Estimator(Concepts, Protocol):
    """Concepts that can be written and read."""

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


@runtime_checkable
class Translator(Protocol):
    """Concepts whose codes are decoded in another way for each source."""

    def translate(self, source: str, target: str, codes: SparseCodes) -> Float[Tensor, "... d"]:
        """Reconstruction of `target` from the codes of `source`, in standardised units."""
        ...
