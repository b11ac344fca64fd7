"""Concepts that are read by affine maps: an encoder and a decoder for each model, and a choice of codes between.

Every SAE is that once it is trained, and so is every way of fitting one to a model that has none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from usae.common.numerics.ridge import LinearMap
from usae.methods.fitting.units import InUnits
from usae.sae.estimator import Concepts
from usae.sae.levels import Levels
from usae.sae.sparse import SparseCodes, sparse_decode


@dataclass(frozen=True, kw_only=True)
class AffineSAE(InUnits):
    """See `Concepts`.

    encoders: standardised tokens (d,) to pre-codes (c,), decoders: codes (c,) to standardised tokens (d,).
    """

    encoders: Mapping[str, LinearMap]
    decoders: Mapping[str, LinearMap]
    levels: Levels

    @classmethod
    def of(
        cls,
        units: Concepts,
        encoders: Mapping[str, LinearMap],
        decoders: Mapping[str, LinearMap],
        levels: Levels,
        device: torch.device,
    ) -> Self:
        """Of the models that have encoders, and of the levels' concepts and codes."""
        return cls(
            units=units,
            models=tuple(encoders),
            concepts=levels.ends[-1],
            k=levels.k,
            encoders=encoders,
            decoders=decoders,
            levels=levels,
            device=device,
        )

    def pre_codes(self, model: str, tokens: Float[Tensor, "... d"]) -> Float[Tensor, "... c"]:
        """Of raw activations, before ReLU and the choice of codes."""
        encoder = self.encoders[model]
        rows = self.standardise(model, tokens)
        return F.linear(rows, self.tensor(encoder.weights).T, self.tensor(encoder.offset))

    def encode(self, tokens: Mapping[str, Float[Tensor, "... _"]]) -> dict[str, SparseCodes]:
        """See `Concepts`: of each model from itself alone."""
        return {model: self.levels.top_k(self.pre_codes(model, raw)) for model, raw in tokens.items()}

    def decode(self, model: str, codes: SparseCodes) -> Float[Tensor, "... d"]:
        """See `Concepts`."""
        decoder = self.decoders[model]
        return sparse_decode(codes, self.tensor(decoder.weights)) + self.tensor(decoder.offset)

    def dictionary(self, model: str) -> Float[Tensor, "c d"]:
        """See `Concepts`; a concept that a model does not write stays 0."""
        return F.normalize(self.tensor(self.decoders[model].weights))
