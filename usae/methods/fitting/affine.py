"""Concepts that are read by affine maps: an encoder and a decoder for each model, and a choice of codes between.

Every SAE is that once it is trained, and so is every way of fitting one to a model that has none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from usae.common.numerics.ridge import LinearMap
from usae.sae.estimator import Concepts
from usae.sae.levels import Levels
from usae.sae.sparse import SparseCodes, sparse_decode


@dataclass(frozen=True)
class AffineSAE:
    """See `Concepts`. units: whose standardised units are read and written.

    encoders: standardised tokens (d,) to pre-codes (c,), decoders: codes (c,) to standardised tokens (d,).
    """

    units: Concepts
    encoders: Mapping[str, LinearMap]
    decoders: Mapping[str, LinearMap]
    levels: Levels
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def models(self) -> tuple[str, ...]:
        """Slugs, in order."""
        return tuple(self.encoders)

    @property
    def widths(self) -> dict[str, int]:
        """Of the models' activations."""
        return {model: self.units.widths[model] for model in self.encoders}

    @property
    def concepts(self) -> int:
        """c."""
        return self.levels.ends[-1]

    @property
    def k(self) -> int:
        """Codes per token."""
        return self.levels.k

    def standardise(self, model: str, tokens: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """See `Concepts`."""
        return self.units.standardise(model, tokens)

    def pre_codes(self, model: str, tokens: Float[Tensor, "... d"]) -> Float[Tensor, "... c"]:
        """Of raw activations, before ReLU and the choice of codes."""
        encoder = self.encoders[model]
        rows = self.standardise(model, tokens)
        return F.linear(rows, self._tensor(encoder.weights).T, self._tensor(encoder.offset))

    def encode(self, tokens: Mapping[str, Float[Tensor, "... _"]]) -> dict[str, SparseCodes]:
        """See `Concepts`: of each model from itself alone."""
        return {model: self.levels.top_k(self.pre_codes(model, raw)) for model, raw in tokens.items()}

    def decode(self, model: str, codes: SparseCodes) -> Float[Tensor, "... d"]:
        """See `Concepts`."""
        decoder = self.decoders[model]
        return sparse_decode(codes, self._tensor(decoder.weights)) + self._tensor(decoder.offset)

    def dictionary(self, model: str) -> Float[Tensor, "c d"]:
        """See `Concepts`; a concept that a model does not write stays 0."""
        return F.normalize(self._tensor(self.decoders[model].weights))

    def to(self, device: torch.device) -> "AffineSAE":
        """On another device."""
        return replace(self, units=self.units.to(device), device=device)

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(self.device)
