"""Levels of concepts: a few coarse ones first, then finer ones, each level with codes of its own.

A token has as many codes from a level whatever the other levels hold. So the first levels alone are an SAE by
themselves, whose codes are the same with and without the finer ones: a nested, or Matryoshka, dictionary.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from usae.common.errors import UserError
from usae.sae.sparse import SparseCodes, top_k

Choose = Callable[[Tensor, int], SparseCodes]  # pre-codes, k -> the k largest of ReLU of them
USUAL: Choose = top_k


class Levels:
    """Which concepts and which of a token's k codes belong to which level.

    ends: concepts of the levels up to each one, increasing; the last is all of them. k: shared out evenly, and
    what is left over goes to the last levels.
    """

    def __init__(self, ends: Sequence[int], k: int) -> None:
        """Raises:
        UserError: k is more than a level's share can take, or the ends do not increase.
        """
        self.ends, self.k = tuple(ends), k
        edges = pairwise((0, *self.ends))
        self.concepts = [slice(*edge) for edge in edges]
        shares = [number * k // len(self.ends) for number in range(len(self.ends) + 1)]
        self.codes = [slice(*edge) for edge in pairwise(shares)]
        if faults := [fault for own in range(len(self.ends)) if (fault := self._fault(own))]:
            raise UserError.listing("The levels of the dictionary cannot be used:", faults)

    def __len__(self) -> int:
        return len(self.ends)

    def top_k(self, pre: Float[Tensor, "... c"], choose: Choose = USUAL) -> SparseCodes:
        """The largest of ReLU(pre) per token, of each level its share; codes lie level by level."""
        if len(self) == 1:
            return choose(pre, self.k)
        parts = [self.own(level, pre, choose) for level in range(len(self))]
        return SparseCodes(
            torch.cat([part.indices for part in parts], -1), torch.cat([part.values for part in parts], -1)
        )

    def own(self, level: int, pre: Float[Tensor, "... c"], choose: Choose = USUAL) -> SparseCodes:
        """The codes of one level."""
        concepts, codes = self.concepts[level], self.codes[level]
        found = choose(pre[..., concepts], codes.stop - codes.start)
        return SparseCodes(found.indices + concepts.start, found.values)

    def _fault(self, level: int) -> str:
        concepts, codes = self.concepts[level], self.codes[level]
        size, share = concepts.stop - concepts.start, codes.stop - codes.start
        if 1 <= share <= size:
            return ""
        return (
            f"level {level + 1} has {size} concepts and {share} of the {self.k} codes of a token; expected at "
            "least one code, and no more codes than concepts. Change `train.levels` or `k`."
        )
