"""The largest values of each row, exactly, without sorting a row or keeping a heap of it.

Up to 256 values are parted by NumPy, in vector registers where the processor has them. Its partition knows no
columns, so they ride along: a float32 leaves 29 bits of a float64 free. In longer rows the k largest lie in the k
groups with the largest maxima: any other group has k values before it. So the maxima of groups are searched, and
then the members of the groups found (benchmarks/top_k.py has the times beside `torch.topk`).
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

FEW = 48  # values of a row: of fewer, `torch.topk` is as fast
MOST = 256  # values of a row that are parted at once
GROUP = 8  # values that are first looked at together, at most
LOWEST = np.finfo(np.float32).min  # -inf with a column in its free bits would be no number
COLUMN = (1 << 29) - 1  # the free bits


def largest(values: Float[Tensor, "... c"], count: int) -> Int[Tensor, "... count"]:
    """Where the `count` largest of each row are, in no order; without gradients."""
    size, group = values.shape[-1], min(GROUP, MOST // count)
    too_wide = size > MOST and (group < 2 or size % group)
    if values.is_cuda or values.dtype != torch.float32 or size < FEW or too_wide:
        return values.topk(count, dim=-1, sorted=False).indices
    if size <= MOST:
        return _parted(values, count)
    groups = largest(values.unflatten(-1, (group, size // group)).amax(-2), count)
    members = groups[..., None] + torch.arange(0, size, size // group)
    members = members.flatten(-2)
    return members.gather(-1, largest(values.gather(-1, members), count))


def _parted(values: Float[Tensor, "... c"], count: int) -> Int[Tensor, "... count"]:
    """As `largest`; of equal values those in the last columns."""
    *shape, size = values.shape
    keys = np.maximum(values.detach().reshape(-1, size).numpy(), LOWEST).astype(np.float64)
    bits = keys.view(np.int64)
    bits |= np.arange(size)
    keys.partition(size - count, axis=-1)
    return torch.from_numpy(bits[:, size - count :] & COLUMN).reshape(*shape, count)


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
