"""The L1 penalty of a crosscoder (Lindsey et al. 2024): what a code adds to all models costs.

A given strength gives some number of codes to a token, and which one is known afterwards only. So the number is
given, and the strength follows: it is the integral, over the steps, of how far the number is off.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from usae.methods.joint.codes import TokenCodes

FIRST_SHARE = 0.01  # of the first step's loss: the penalty there
PACE = 0.5  # how far the logarithm of the strength goes in a step, in those of codes over k


class Penalty:
    """strength x mean over tokens of sum_k f_k sum_i |D_i[k]| / g_i. strength: 0 before the first step."""

    def __init__(self, k: int) -> None:
        self.k, self.strength = k, 0.0

    def __call__(
        self, codes: Sequence[TokenCodes], norms: Float[Tensor, "m c"], loss: Float[Tensor, ""]
    ) -> Float[Tensor, ""]:
        """Of the codes of a batch, level by level, with the norms of what they add; then the strength moves on.

        loss: of reconstruction, by which the first strength is measured.
        """
        cost = l1(codes, norms)
        if not self.strength and cost > 0:
            self.strength = FIRST_SHARE * float(loss / cost.detach())
        strength, number = self.strength, sum(float((part.values > 0).sum()) for part in codes)
        self.strength *= (number / (self.k * len(codes[0].starts))) ** PACE
        return strength * cost


def l1(codes: Sequence[TokenCodes], norms: Float[Tensor, "m c"]) -> Float[Tensor, ""]:
    """Mean over tokens of sum_k f_k sum_i |D_i[k]| / g_i, norms being |D_i[k]| / g_i.

    The norms are summed over models, as published: a concept of all models costs as much as one of each. The norm
    of all rows side by side would make the first cheaper.
    """
    whole = norms.sum(0)
    costs = [(part.values * whole[part.concepts]).sum() / len(part.starts) for part in codes]
    return torch.stack(costs).sum()
