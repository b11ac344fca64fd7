"""The step's products with sparse codes, by torch; `kernel_products.py` has the same by Triton, for GPUs."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from usae.sae.levels import Levels
from usae.sae.sparse import SparseCodes, sparse_decode, transposed_product
from usae.sae.top_k import keep_largest


@runtime_checkable
class Groups(Protocol):
    """Sparse codes [n, k], seen from their concepts."""

    def sum(self, values: Float[Tensor, "n k"], rows: Float[Tensor, "n d"]) -> Float[Tensor, "c d"]:
        """For each concept, the weighted sum of the rows that chose it."""
        ...

    def sum_values(self, values: Float[Tensor, "n k"]) -> Float[Tensor, " c"]:
        """For each concept, the sum of its values."""
        ...


class TorchGroups:
    """See `Groups`."""

    def __init__(self, indices: Int[Tensor, "n k"], concepts: int) -> None:
        self.indices, self.concepts = indices, concepts

    def sum(self, values: Float[Tensor, "n k"], rows: Float[Tensor, "n d"]) -> Float[Tensor, "c d"]:
        """See `Groups`."""
        return transposed_product(self.indices, values, rows, self.concepts)

    def sum_values(self, values: Float[Tensor, "n k"]) -> Float[Tensor, " c"]:
        """See `Groups`."""
        return values.new_zeros(self.concepts).index_add_(0, self.indices.flatten(), values.flatten())


class SparseProducts:
    """All that a step does with sparse codes.

    needs_relu: whether what is chosen from has to be ReLU of the pre-codes; otherwise choosing takes care of it.
    """

    needs_relu = True

    def top_k(self, levels: Levels, codes: Float[Tensor, "n c"]) -> SparseCodes:
        """The largest codes of each token, of each level its share."""
        return levels.top_k(codes)

    def keep_largest(self, codes: Float[Tensor, "n c"], count: int) -> Float[Tensor, "n c"]:
        """Only the `count` largest of each row kept; the argument may be changed."""
        return keep_largest(codes, count)

    def decode(self, codes: SparseCodes, dictionary: Float[Tensor, "c d"]) -> Float[Tensor, "n d"]:
        """Z D; differentiable in the values."""
        return sparse_decode(codes, dictionary)

    def groups(self, indices: Int[Tensor, "n k"], concepts: int) -> Groups:
        """The codes, seen from their concepts."""
        return TorchGroups(indices, concepts)
