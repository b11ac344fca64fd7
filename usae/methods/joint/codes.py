"""The codes of a batch in training, of any number to a token."""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class TokenCodes:
    """Concepts and their values, token after token. starts (n,): where a token's begin."""

    concepts: Int[Tensor, " codes"]
    values: Float[Tensor, " codes"]
    starts: Int[Tensor, " n"]

    def decoded(self, rows: Float[Tensor, "c d"]) -> Float[Tensor, "n d"]:
        """Z D."""
        return F.embedding_bag(self.concepts, rows, self.starts, mode="sum", per_sample_weights=self.values)

    def among(self, first: int, last: int) -> "TokenCodes":
        """The codes of concepts from `first` to before `last`, the others 0."""
        inside = (self.concepts >= first) & (self.concepts < last)
        return TokenCodes(self.concepts, self.values * inside, self.starts)
