"""What is maximised: linear functions of one model's tokens, concepts and, as a control, random directions.

Used by stage `maximise`. A concept's code before ReLU and TopK, with BatchNorm in eval mode, is one weight vector
and one bias on raw activations; its gradient is there also where the concept is not among the k chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from usae.sae.layers import STD_EPSILON
from usae.sae.universal import UniversalSAE

ScoreKind = Literal["mean", "max", "centre"]


@dataclass(frozen=True)
class Directions:
    """n linear functions of raw tokens: weight [n, d], bias [n]."""

    weight: Tensor
    bias: Tensor

    def __call__(self, tokens: Float[Tensor, "... d"]) -> Float[Tensor, "... n"]:
        """Their values at every token."""
        return tokens @ self.weight.T + self.bias

    def __add__(self, other: "Directions") -> "Directions":
        """These, then the others."""
        return Directions(torch.cat([self.weight, other.weight]), torch.cat([self.bias, other.bias]))

    def take(self, rows: Sequence[int]) -> "Directions":
        """Some of them, by their position."""
        return Directions(self.weight[list(rows)], self.bias[list(rows)])


@torch.no_grad()
def concept_directions(sae: UniversalSAE, model: str, concepts: Sequence[int]) -> Directions:
    """The pre-codes of chosen concepts: standardisation, encoder and BatchNorm (eval mode) in one."""
    part, rows = sae.part(model), torch.tensor(list(concepts), dtype=torch.long)
    weight, bias = part.encoder.affine()  # of standardised tokens
    return _of_raw_tokens(sae, model, weight[rows], bias[rows])


@torch.no_grad()
def random_directions(sae: UniversalSAE, model: str, count: int, generator: torch.Generator) -> Directions:
    """Gaussian directions of unit expected norm among standardised tokens, as if a concept meant nothing."""
    width = sae.widths[model]
    weight = torch.randn(count, width, generator=generator) / width**0.5  # (n, d)
    device = sae.part(model).mean.device
    return _of_raw_tokens(sae, model, weight.to(device), torch.zeros(count, device=device))


def reduce_tokens(values: Float[Tensor, "b t n"], score: ScoreKind) -> Float[Tensor, "b n"]:
    """One number per image: the mean over tokens, the largest, or the middle one (row and column grid // 2)."""
    if score == "mean":
        return values.mean(dim=1)
    if score == "max":
        return values.amax(dim=1)
    grid = round(values.shape[1] ** 0.5)
    return values[:, grid // 2 * grid + grid // 2]


def _of_raw_tokens(sae: UniversalSAE, model: str, weight: Tensor, bias: Tensor) -> Directions:
    part = sae.part(model)
    raw = weight / (part.std + STD_EPSILON)  # (n, d)
    return Directions(raw, bias - raw @ part.mean)
