"""The auxiliary term of the fast step: a second reconstruction, dense, from many codes of each token.

`multi_topk`: all concepts reconstruct the targets. `dead`: concepts that have long not fired reconstruct what the
chosen codes leave. Blocks of rows are added as they come; sums lie with the concepts last, which is what oneDNN
makes without copying its operands.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from usae.training.step.matmul import linear

Keep = Callable[[Tensor, int], Tensor]  # codes, how many of a row -> only those
Slope = Callable[[Tensor], tuple[Tensor, Tensor]]  # residual -> d loss / d reconstruction, the loss's terms


@dataclass(frozen=True)
class Codes:
    """Which codes reconstruct: of n concepts, and at most so many of a token."""

    concepts: slice | Tensor
    most: int
    weight: Float[Tensor, "n wide"]  # of the wide dictionary, in the products' precision
    transposed: Float[Tensor, "wide n"]


class Auxiliary:
    """One step's term, and what it has added up over blocks."""

    def __init__(
        self, codes: Codes, factor: float, centred: Float[Tensor, "n d"], learning: slice, keep: Keep
    ) -> None:
        """factor: the term's weight in the loss. centred: the batch's tokens. learning: columns that learn."""
        self.codes, self.factor, self.learning, self.keep = codes, factor, learning, keep
        concepts, wide = codes.weight.shape
        self.terms = centred.new_zeros(wide)  # of the objective
        self.products = centred.new_zeros(centred.shape[1], concepts)  # tokens times gradients of the pre-codes
        self.sums = centred.new_zeros(concepts)  # gradients of the pre-codes
        self.dictionary = centred.new_zeros(len(range(*learning.indices(wide))), concepts)

    def add(self, codes: Tensor, target: Tensor, centred: Tensor, slope_of: Slope) -> None:
        """One block of rows: codes (rows, c), what they should reconstruct (rows, wide), tokens (rows, d_i)."""
        weight, transposed, dtype = self.codes.weight, self.codes.transposed, target.dtype
        kept = self.keep(codes[:, self.codes.concepts], self.codes.most).to(weight.dtype)  # (rows, n)
        residual = target - linear(kept, transposed).to(dtype)  # (rows, wide)
        slope, terms = slope_of(residual)
        self.terms += terms
        slope = slope * self.factor
        gradient = linear(slope, weight)  # (rows, n)
        torch.ops.aten.threshold_backward.grad_input(gradient, kept, 0, grad_input=gradient)  # 0 where codes are
        self.sums.add_(gradient.sum(0, dtype=dtype))
        self.products.add_(linear(centred.T, gradient.T).to(dtype))
        self.dictionary.add_(linear(slope[:, self.learning].T, kept.T).to(dtype))

    def into(self, products: Tensor, sums: Tensor, dictionary: Tensor) -> None:
        """Add to the sums of all concepts: (c, d_i), (c,) and (c, learning columns)."""
        products[self.codes.concepts] += self.products.T
        sums[self.codes.concepts] += self.sums
        dictionary[self.codes.concepts] += self.dictionary.T
