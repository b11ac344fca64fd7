"""Sparse codes: the k concepts of each token, and products with dictionaries that never form dense ones."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from torch import Tensor

from usae.sae.top_k import largest

RADIX = 1 << 15  # concepts whose numbers have 16 bits


@dataclass(frozen=True)
class SparseCodes:
    """The k concepts of each token. indices: int64 [..., k]; values: [..., k], 0 in unused slots.

    `codes[3]` are those of the fourth image.
    """

    indices: Tensor
    values: Tensor

    def __repr__(self) -> str:
        *places, k = self.shape
        if not places:
            return f"SparseCodes(one token, {k} codes)"
        return f"SparseCodes({' x '.join(map(str, places))} tokens, {k} codes each)"

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, places: Any) -> "SparseCodes":
        return SparseCodes(self.indices[places], self.values[places])

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tokens, and k."""
        return tuple(self.values.shape)

    def top(self, count: int) -> dict[int, float]:
        """The concepts with the largest sums of codes over all tokens, largest first, and these sums."""
        concepts, place = self.indices.unique(return_inverse=True)
        sums = self.values.new_zeros(len(concepts)).index_add_(0, place.flatten(), self.values.flatten())
        order = [each for each in sums.argsort(descending=True, stable=True).tolist() if sums[each] > 0]
        return {int(concepts[each]): float(sums[each]) for each in order[:count]}

    def to_torch(self, concepts: int) -> Tensor:
        """The positive codes as a sparse tensor [..., concepts]."""
        used = self.values.nonzero(as_tuple=True)
        places = torch.stack([*used[:-1], self.indices[used]])
        return torch.sparse_coo_tensor(
            places, self.values[used], (*self.shape[:-1], concepts), check_invariants=True
        ).coalesce()

    def to_scipy(self, concepts: int) -> csr_array:
        """The positive codes as a SciPy array [tokens, concepts]: a row for each token."""
        k = self.shape[-1]
        flat = (
            SparseCodes(self.indices.reshape(-1, k), self.values.detach().reshape(-1, k)).to_torch(concepts).cpu()
        )
        return csr_array((flat.values().numpy(), flat.indices().numpy()), (len(flat), concepts))

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
