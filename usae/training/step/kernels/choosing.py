"""The largest positive pre-codes of each row, exactly: a program takes a row, which lies in its registers.

ReLU comes with it. Numbers that are not negative are ordered as their bits are, so the k-th largest is found bit
by bit, from the highest: how many values are at least as large? It ends early where exactly k are. Of equal values
the last columns are taken, as `usae.sae.top_k` does on a CPU in rows of up to 256 values. What is no number counts
as the largest. A second reading of the row writes what was chosen, column by column.
"""

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from usae.sae.sparse import SparseCodes

MOST_COLUMNS = 1 << 15  # that fit into a program's registers
COLUMNS_A_WARP = 1024
CHUNK = 1024  # columns that are written at a time
INTEGERS = {torch.float32: (tl.int32, 31), torch.float64: (tl.int64, 63)}  # bits beside the sign


def top_k(pre: Float[Tensor, "n c"], k: int) -> SparseCodes:
    """The k largest of ReLU(pre) per row, in the order of the columns.

    Raises:
        ValueError: the rows are too long.
    """
    values = pre.new_empty(len(pre), k)
    codes = SparseCodes(torch.empty_like(values, dtype=torch.int64), values)
    _launch(pre, k, codes.indices, codes.values, dense=False)
    return codes


def keep_largest(pre: Float[Tensor, "n c"], count: int) -> Float[Tensor, "n c"]:
    """ReLU of the `count` largest of each row, zeros for the others."""
    kept = pre.new_empty(pre.shape)
    _launch(pre, min(count, pre.shape[1]), kept, kept, dense=True)
    return kept


def _launch(pre: Tensor, count: int, indices: Tensor, values: Tensor, dense: bool) -> None:
    if pre.shape[1] > MOST_COLUMNS:
        raise ValueError(f"rows of {pre.shape[1]} concepts are longer than {MOST_COLUMNS}")
    integer, bits = INTEGERS[pre.dtype]
    block = max(triton.next_power_of_2(pre.shape[1]), 32)
    sizes = {"INTEGER": integer, "BITS": bits, "BLOCK": block, "CHUNK": min(block, CHUNK), "DENSE": dense}
    warps = min(max(block // COLUMNS_A_WARP, 4), 32)
    rows = pre, indices, values, pre.stride(0), pre.shape[1]
    _choose[(len(pre),)](*rows, COUNT=count, **sizes, num_warps=warps)


@triton.jit
def _codes(row, column, columns):
    value = tl.load(row + column, mask=column < columns, other=0.0)
    return tl.where((value > 0) | (value != value), value, 0.0)


@triton.jit
def _keys(codes, column, columns, INTEGER: tl.constexpr, BITS: tl.constexpr):
    """Integers in the order of the codes; of columns that are not there: -1."""
    half = tl.full((), 1, INTEGER) << (BITS - 1)
    keys = tl.where(codes != codes, half - 1 + half, codes.to(INTEGER, bitcast=True))
    return tl.where(column < columns, keys, -1)


@triton.jit
def _least(row, columns, COUNT: tl.constexpr, INTEGER: tl.constexpr, BITS: tl.constexpr, BLOCK: tl.constexpr):
    """A key that exactly COUNT keys reach, or the largest that more reach; and how many more."""
    column = tl.arange(0, BLOCK)
    keys = _keys(_codes(row, column, columns), column, columns, INTEGER, BITS)
    least = tl.full((), 0, INTEGER)
    positive = tl.sum((keys > 0).to(tl.int32), 0)
    step = tl.where(positive > COUNT, tl.full((), 1, INTEGER) << (BITS - 1), least)
    reached = tl.full((), 0, tl.int32)
    while (step > 0) & (reached != COUNT):
        count = tl.sum((keys >= (least | step)).to(tl.int32), 0)
        reached = tl.where(count >= COUNT, count, reached)
        least = tl.where(count >= COUNT, least | step, least)
        step = step >> 1
    return least, tl.sum((keys >= least).to(tl.int32), 0) - COUNT


@triton.jit
def _choose(
    pre,
    indices,
    values,
    stride,
    columns,
    COUNT: tl.constexpr,
    INTEGER: tl.constexpr,
    BITS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    DENSE: tl.constexpr,
):
    number = tl.program_id(0).to(tl.int64)
    row = pre + number * stride
    least, surplus = _least(row, columns, COUNT, INTEGER, BITS, BLOCK)
    taken = tl.full((), 0, tl.int32)
    equals = tl.full((), 0, tl.int32)
    for first in range(0, columns, CHUNK):
        column = first + tl.arange(0, CHUNK)
        codes = _codes(row, column, columns)
        keys = _keys(codes, column, columns, INTEGER, BITS)
        equal = (keys == least).to(tl.int32)  # the first `surplus` of these are left out
        chosen = (keys > least) | ((equal == 1) & (equals + tl.cumsum(equal, 0) > surplus))
        equals += tl.sum(equal, 0)
        if DENSE:
            tl.store(values + number * columns + column, tl.where(chosen, codes, 0.0), mask=column < columns)
        else:
            place = number * COUNT + taken + tl.cumsum(chosen.to(tl.int32), 0) - 1
            tl.store(indices + place, column.to(tl.int64), mask=chosen)
            tl.store(values + place, codes, mask=chosen)
            taken += tl.sum(chosen.to(tl.int32), 0)
