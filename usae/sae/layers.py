"""The layers of one model: encoder, dictionary, and both with the statistics of its activations."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

STD_EPSILON = 1e-5  # added to the standard deviation, as in the authors' code
NORM_EPSILON = 1e-8  # added to a concept's norm, likewise


class Encoder(nn.Module):
    """Linear map and BatchNorm: standardised tokens [n, d] -> pre-codes [n, c]."""

    def __init__(self, width: int, concepts: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, concepts)
        self.norm = nn.BatchNorm1d(concepts)

    def forward(self, tokens: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """Pre-codes, before ReLU and TopK; batch statistics in training mode, running ones in eval mode."""
        pre: Tensor = self.norm(self.linear(tokens))
        return pre

    @torch.no_grad()
    def affine(self, dtype: torch.dtype | None = None) -> tuple[Float[Tensor, "c d"], Float[Tensor, " c"]]:
        """Linear map and BatchNorm of eval mode as one map, weight and bias; `dtype`: computed in that type."""
        assert self.norm.running_mean is not None
        assert self.norm.running_var is not None
        named = (self.linear.weight, self.linear.bias, self.norm.weight, self.norm.bias)
        stored = (*named, self.norm.running_mean, self.norm.running_var)
        weight, bias, scale, shift, mean, variance = (each.to(dtype or each.dtype) for each in stored)
        gain = scale / (variance + self.norm.eps).sqrt()
        return weight * gain[:, None], shift + gain * (bias - mean)


class Dictionary(nn.Module):
    """Concepts as rows of a weight matrix [c, d]; only their directions count."""

    def __init__(self, width: int, concepts: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(concepts, width))

    def unit(self) -> Float[Tensor, "c d"]:
        """The concepts at unit norm; gradients flow through the normalisation."""
        unit: Tensor = self.weight / (self.weight.norm(dim=1, keepdim=True) + NORM_EPSILON)
        return unit


class StandardisedSAE(nn.Module):
    """One model's encoder and dictionary, and the statistics of its activations.

    mean, std: per channel [d]; all channels alike under `standardize: scalar`. gain: norm of the concepts as they
    are decoded, 1 unless `gain: width`.
    """

    mean: Tensor
    std: Tensor
    gain: Tensor

    def __init__(self, width: int, concepts: int) -> None:
        super().__init__()
        self.encoder, self.dictionary = Encoder(width, concepts), Dictionary(width, concepts)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.register_buffer("gain", torch.ones(()))

    def standardise(self, tokens: Tensor) -> Tensor:
        """(tokens - mean) / (std + 1e-5), in float32 at least."""
        return (tokens.to(torch.promote_types(tokens.dtype, self.mean.dtype)) - self.mean) / (
            self.std + STD_EPSILON
        )
