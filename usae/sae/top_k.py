"""The largest values of each row, exactly, without sorting a row or keeping a heap of it.

The k largest of a row lie in the k groups with the largest maxima: any other group has k values before it. So the
maxima of groups are searched instead, and then the members of the groups found.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

GROUP = 8  # values that are first looked at together
WORTH = 24  # times as many values as are sought: below that, looking at each is faster


def largest(values: Float[Tensor, "... c"], count: int) -> Int[Tensor, "... count"]:
    """Where the `count` largest of each row are, in no order."""
    size = values.shape[-1]
    if values.is_cuda or size % GROUP or size < WORTH * count:
        return values.topk(count, dim=-1, sorted=False).indices
    groups = largest(values.unflatten(-1, (GROUP, size // GROUP)).amax(-2), count)
    members = groups[..., None] + torch.arange(0, size, size // GROUP, device=values.device)
    members = members.flatten(-2)
    return members.gather(-1, largest(values.gather(-1, members), count))


def keep_largest(codes: Float[Tensor, "n c"], count: int) -> Float[Tensor, "n c"]:
    """Only the `count` largest of the positive codes of each row kept, in place on a CPU; no code is negative."""
    if count >= codes.shape[1]:
        return codes
    if codes.is_cuda:  # nothing here may wait for a number from the GPU
        kept = codes.topk(count, dim=1, sorted=False)
        return torch.zeros_like(codes).scatter_(1, kept.indices, kept.values)
    excess = codes.sign().sum(1).sub_(count)  # (n,)
    crowded = (excess > 0).nonzero().squeeze(1)
    if len(crowded):
        codes[crowded] = _without_smallest(codes[crowded], excess[crowded])
    return codes


def _without_smallest(codes: Float[Tensor, "n c"], excess: Float[Tensor, " n"]) -> Float[Tensor, "n c"]:
    """As many of the smallest positive codes as the row's `excess` set to 0, in place."""
    most = int(excess.max())
    heights = F.threshold(codes, 0.0, torch.inf).neg_()  # of zeros: -inf
    smallest = largest(heights, most)
    order = heights.gather(1, smallest).argsort(dim=1, descending=True)
    smallest = smallest.gather(1, order)  # (n, most), the smallest first
    values = codes.gather(1, smallest).masked_fill_(torch.arange(most, device=codes.device) < excess[:, None], 0)
    return codes.scatter_(1, smallest, values)
