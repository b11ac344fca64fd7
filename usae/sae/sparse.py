"""Sparse codes: the k concepts of each token, and products with dictionaries that never form dense ones."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from usae.sae.top_k import largest

RADIX = 1 << 15  # concepts whose numbers have 16 bits


@dataclass(frozen=True)
class SparseCodes:
    """The k concepts of each token. indices: int64 [..., k]; values: [..., k], 0 in unused slots."""

    indices: Tensor
    values: Tensor

    def dense(self, concepts: int) -> Tensor:
        """The codes as [..., concepts]; for small inputs."""
        return self.values.new_zeros(*self.values.shape[:-1], concepts).scatter(-1, self.indices, self.values)


def top_k(pre: Float[Tensor, "... c"], k: int) -> SparseCodes:
    """The k largest of ReLU(pre) per token."""
    indices = largest(pre.detach(), k)
    return SparseCodes(indices, F.relu(pre.gather(-1, indices)))


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
    chosen = indices.flatten()
    order = _order(chosen, concepts)
    return F.embedding_bag(
        order // indices.shape[1],
        rows,
        torch.searchsorted(chosen[order], torch.arange(concepts, device=chosen.device)),
        per_sample_weights=values.flatten()[order].to(rows.dtype),
        mode="sum",
    )


def _order(concepts: Int[Tensor, " n"], count: int) -> Int[Tensor, " n"]:
    """Where the entries lie, concept by concept, those of one in their order. NumPy sorts 16 bits by radix."""
    if concepts.is_cuda or count > RADIX:
        return concepts.argsort(stable=True)
    order = torch.empty_like(concepts)
    order.numpy()[:] = concepts.numpy().astype(np.int16).argsort(kind="stable")
    return order
