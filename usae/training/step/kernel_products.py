"""The step's products with sparse codes, by Triton: on a GPU, or slowly on a CPU in Triton's interpreter.

Loading this loads Triton; `choice.py` decides where it is.
"""

from jaxtyping import Float, Int
from torch import Tensor

from usae.sae.levels import Levels
from usae.sae.sparse import SparseCodes
from usae.training.step.kernels import choosing
from usae.training.step.kernels.adding import Grouping
from usae.training.step.kernels.gathering import decoding
from usae.training.step.products import Groups, SparseProducts


class KernelProducts(SparseProducts):
    """See `SparseProducts`. Codes are float32 or float64, of at most 32 768 concepts."""

    needs_relu = False

    def top_k(self, levels: Levels, codes: Float[Tensor, "n c"]) -> SparseCodes:
        """See `SparseProducts`; of pre-codes, too."""
        return levels.top_k(codes, choosing.top_k)

    def keep_largest(self, codes: Float[Tensor, "n c"], count: int) -> Float[Tensor, "n c"]:
        """See `SparseProducts`; of pre-codes, too."""
        return choosing.keep_largest(codes, count)

    def decode(self, codes: SparseCodes, dictionary: Float[Tensor, "c d"]) -> Float[Tensor, "n d"]:
        """See `SparseProducts`; sums of rows in bfloat16 are float32."""
        return decoding(codes.indices, codes.values, dictionary)

    def groups(self, indices: Int[Tensor, "n k"], concepts: int) -> Groups:
        """See `SparseProducts`."""
        return Grouping.of(indices, concepts)
