"""The universal sparse autoencoder: one encoder and one dictionary per model, one concept space for all.

Z = TopK(ReLU(BatchNorm(W A + b))), A_hat_j = Z D_j with unit-norm concepts (rows of D_j); paper eq. 1-4 and
appendix A.1. Trained by stage `train`, read by everything after it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from usae.errors import UserError
from usae.selection import largest

WEIGHTS, CONFIG = "model.safetensors", "config.json"
FORMAT_VERSION = 2
STD_EPSILON = 1e-5  # added to the standard deviation, as in the authors' code
NORM_EPSILON = 1e-8  # added to a concept's norm, likewise


@dataclass(frozen=True)
class SparseCodes:
    """The k concepts of each token. indices: int64 [..., k]; values: [..., k], 0 in unused slots."""

    indices: Tensor
    values: Tensor

    def dense(self, concepts: int) -> Tensor:
        """The codes as [..., concepts]; for small inputs."""
        return self.values.new_zeros(*self.values.shape[:-1], concepts).scatter(-1, self.indices, self.values)


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


def top_k(pre: Float[Tensor, "... c"], k: int) -> SparseCodes:
    """The k largest of ReLU(pre) per token."""
    indices = largest(pre.detach(), k)
    return SparseCodes(indices, F.relu(pre.gather(-1, indices)))


class UniversalSAE(nn.Module):
    """Encoders and dictionaries of several models that share one set of concepts.

    widths: model slug -> activation width. `config` travels with the weights: each model's backbone, layer and
    geometry, and the training settings, so that codes can be made for new images.
    """

    def __init__(
        self, widths: Mapping[str, int], concepts: int, k: int, config: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        if not 1 <= k <= concepts:
            raise UserError(f"k should be 1 to {concepts} (the dictionary's size), found {k}.")
        self.models, self.concepts, self.k = tuple(widths), concepts, k
        self.widths, self.config = dict(widths), config or {}
        self.parts = nn.ModuleDict({model: StandardisedSAE(width, concepts) for model, width in widths.items()})

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "UniversalSAE":
        """The SAE saved in `folder`, in eval mode.

        Raises:
            UserError: there is none, or it is of another version.
        """
        folder = Path(folder)
        if not (folder / CONFIG).is_file():
            raise UserError(f"There is no SAE in '{folder}' (no {CONFIG}); run `dvc repro train` to make one.")
        config = json.loads((folder / CONFIG).read_text())
        if config["format"] != FORMAT_VERSION:
            raise UserError(
                f"The SAE in '{folder}' has format {config['format']}, this version reads {FORMAT_VERSION}; "
                "run `dvc repro train` to train it anew."
            )
        sae = cls(config["widths"], config["concepts"], config["k"], config["about"])
        sae.load_state_dict(load_file(folder / WEIGHTS), strict=True)
        return sae.eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `config.json`; the same SAE gives the same bytes."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: value.cpu().contiguous() for name, value in self.state_dict().items()}, folder / WEIGHTS)
        config = {
            "format": FORMAT_VERSION,
            "k": self.k,
            "concepts": self.concepts,
            "widths": self.widths,
            "about": self.config,
        }
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")

    def part(self, model: str) -> StandardisedSAE:
        """One model's encoder, dictionary and statistics.

        Raises:
            UserError: the SAE does not know the model.
        """
        if model not in self.widths:
            raise UserError(f"This SAE was trained on {', '.join(self.models)}; it knows no '{model}'.")
        part = self.parts[model]
        assert isinstance(part, StandardisedSAE)
        return part

    def standardise(self, model: str, tokens: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """Raw activations in the units the SAE works in.

        Raises:
            UserError: their width is not the model's.
        """
        if tokens.shape[-1] != self.widths.get(model, tokens.shape[-1]):
            raise UserError(
                f"Activations of '{model}' should have width {self.widths[model]}, found {tuple(tokens.shape)}."
            )
        return self.part(model).standardise(tokens)

    def pre_codes(self, model: str, tokens: Float[Tensor, "... d"]) -> Float[Tensor, "... c"]:
        """Pre-codes of raw activations, before ReLU and TopK; differentiable everywhere."""
        rows = self.standardise(model, tokens).flatten(0, -2)  # (tokens, width)
        pre: Tensor = self.part(model).encoder(rows)
        return pre.unflatten(0, tokens.shape[:-1]) if tokens.dim() != 2 else pre

    def encode(self, model: str, tokens: Float[Tensor, "... d"]) -> SparseCodes:
        """Sparse codes of raw activations (paper eq. 1)."""
        return top_k(self.pre_codes(model, tokens), self.k)

    def decode(self, model: str, codes: SparseCodes) -> Float[Tensor, "... d"]:
        """Reconstruction of `model`'s activations from anyone's codes, in standardised units (paper eq. 4)."""
        return self.part(model).gain * sparse_decode(codes, self.dictionary(model))

    def dictionary(self, model: str) -> Float[Tensor, "c d"]:
        """The concepts of `model` at unit norm."""
        return self.part(model).dictionary.unit()


def sparse_decode(codes: SparseCodes, dictionary: Float[Tensor, "c d"]) -> Float[Tensor, "... d"]:
    """Z D without forming Z: k rows of D per token."""
    shape, k = codes.values.shape[:-1], codes.values.shape[-1]
    values = codes.values.reshape(-1, k).to(dictionary.dtype)
    rows = F.embedding_bag(codes.indices.reshape(-1, k), dictionary, per_sample_weights=values, mode="sum")
    return rows.reshape(*shape, dictionary.shape[1])  # (..., d)


def transposed_product(
    indices: Int[Tensor, "n k"], values: Float[Tensor, "n k"], rows: Float[Tensor, "n d"], concepts: int
) -> Float[Tensor, "c d"]:
    """Z^T X without forming Z: for each concept, the weighted sum of the rows that chose it, in row order."""
    chosen, order = indices.flatten().sort(stable=True)
    return F.embedding_bag(
        order // indices.shape[1],
        rows,
        torch.searchsorted(chosen, torch.arange(concepts, device=chosen.device)),
        per_sample_weights=values.flatten()[order].to(rows.dtype),
        mode="sum",
    )
