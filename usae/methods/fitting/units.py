"""What all concepts fitted without training have in common: whose units they read and write, and their size."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from usae.common.types import Array
from usae.methods.fitting.material import Material
from usae.sae.estimator import Concepts


@dataclass(frozen=True, kw_only=True)
class InUnits:
    """The part of `Concepts` that follows from `units`, the SAE whose standardised units are read and written.

    models: slugs. concepts: c. k: codes of a token, at most.
    """

    units: Concepts
    models: tuple[str, ...]
    concepts: int
    k: int
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def widths(self) -> dict[str, int]:
        """Of the models' activations."""
        return {model: self.units.widths[model] for model in self.models}

    def standardise(self, model: str, tokens: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """See `Concepts`."""
        return self.units.standardise(model, tokens)

    def to(self, device: torch.device) -> Self:
        """On another device."""
        return replace(self, units=self.units.to(device), device=device)

    def tensor(self, values: Array) -> Tensor:
        """In float32, where this computes."""
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(self.device)


def tokens_of(material: Material) -> int:
    """Per image."""
    return next(iter(material.stores.values())).tokens


def drawn_rows(material: Material, most: int, rng: np.random.Generator) -> Mapping[str, Array]:
    """At most so many of the paired training tokens, drawn without replacement and in order: model -> (n, d)."""
    total = len(material.images) * tokens_of(material)
    drawn = np.sort(rng.choice(total, min(most, total), replace=False))
    parts: dict[str, list[Array]] = {model: [] for model in material.models}
    start = 0
    for block in material.blocks():
        stop = start + len(next(iter(block.values())))
        rows = drawn[np.searchsorted(drawn, start) : np.searchsorted(drawn, stop)] - start
        for model, values in block.items():
            parts[model].append(values[rows])
        start = stop
    return {model: np.concatenate(values) for model, values in parts.items()}
