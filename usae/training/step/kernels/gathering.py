"""Rows of a dictionary, k of them for each token: their weighted sum, and its gradient in the weights.

Sums are float32 (float64 for such a dictionary), also of rows in bfloat16, and in a fixed order.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

SLOTS, COLUMNS = 8, 256  # of a program's tile


class Decoding(torch.autograd.Function):
    """Z D (n, d) of indices, values and dictionary; of the three, values alone have a gradient."""

    @staticmethod
    def forward(ctx: Any, indices: Tensor, values: Tensor, dictionary: Tensor) -> Tensor:
        """See the class."""
        ctx.save_for_backward(indices, dictionary)
        return decode(indices, values, dictionary)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[None, Tensor, None]:
        """Of the values."""
        indices, dictionary = ctx.saved_tensors
        return None, code_gradients(indices, dictionary, slopes[0]), None


def decoding(
    indices: Int[Tensor, "n k"], values: Float[Tensor, "n k"], dictionary: Float[Tensor, "c d"]
) -> Float[Tensor, "n d"]:
    """`decode`, differentiable in the values."""
    decoded: Tensor = Decoding.apply(indices, values, dictionary)
    return decoded


def decode(
    indices: Int[Tensor, "n k"], values: Float[Tensor, "n k"], dictionary: Float[Tensor, "c d"]
) -> Float[Tensor, "n d"]:
    """The weighted sum of k rows of the dictionary for each token."""
    width, tile = dictionary.shape[1], columns_of_tile(dictionary)
    decoded = values.new_empty(len(values), width, dtype=sum_type(dictionary))
    grid = (len(values), triton.cdiv(width, tile))
    given = indices.contiguous(), values.contiguous(), dictionary, decoded
    _decode[grid](*given, dictionary.stride(0), width, COUNT=indices.shape[1], SLOTS=SLOTS, COLUMNS=tile)
    return decoded


def code_gradients(
    indices: Int[Tensor, "n k"], dictionary: Float[Tensor, "c d"], slope: Float[Tensor, "n d"]
) -> Float[Tensor, "n k"]:
    """The product of each token's slope with each of its k rows."""
    width, count = dictionary.shape[1], indices.shape[1]
    gradients = slope.new_empty(indices.shape, dtype=sum_type(dictionary))
    grid = (len(indices), triton.cdiv(count, SLOTS))
    given = indices.contiguous(), dictionary, slope.contiguous(), gradients
    tile = columns_of_tile(dictionary)
    _code_gradients[grid](*given, dictionary.stride(0), width, COUNT=count, SLOTS=SLOTS, COLUMNS=tile)
    return gradients


def columns_of_tile(rows: Float[Tensor, "n d"]) -> int:
    """A power of two, and no more than the rows need."""
    return min(max(int(triton.next_power_of_2(rows.shape[1])), 16), COLUMNS)


def sum_type(rows: Tensor) -> torch.dtype:
    """In which rows are added up."""
    return torch.promote_types(rows.dtype, torch.float32)


@triton.jit
def _decode(
    indices,
    values,
    dictionary,
    decoded,
    stride,
    width,
    COUNT: tl.constexpr,
    SLOTS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros((SLOTS, COLUMNS), decoded.dtype.element_ty)
    for first in range(0, COUNT, SLOTS):
        slot = first + tl.arange(0, SLOTS)
        concept = tl.load(indices + token * COUNT + slot, mask=slot < COUNT, other=0)
        value = tl.load(values + token * COUNT + slot, mask=slot < COUNT, other=0.0)
        there = (slot < COUNT)[:, None] & (column < width)[None, :]
        rows = tl.load(dictionary + concept[:, None] * stride + column[None, :], mask=there, other=0.0)
        total += value[:, None].to(total.dtype) * rows.to(total.dtype)
    tl.store(decoded + token * width + column, tl.sum(total, 0), mask=column < width)


@triton.jit
def _code_gradients(
    indices,
    dictionary,
    slope,
    gradients,
    stride,
    width,
    COUNT: tl.constexpr,
    SLOTS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    slot = tl.program_id(1) * SLOTS + tl.arange(0, SLOTS)
    concept = tl.load(indices + token * COUNT + slot, mask=slot < COUNT, other=0)
    total = tl.zeros((SLOTS, COLUMNS), gradients.dtype.element_ty)
    for first in range(0, width, COLUMNS):
        column = first + tl.arange(0, COLUMNS)
        there = (slot < COUNT)[:, None] & (column < width)[None, :]
        rows = tl.load(dictionary + concept[:, None] * stride + column[None, :], mask=there, other=0.0)
        own = tl.load(slope + token * width + column, mask=column < width, other=0.0)
        total += rows.to(total.dtype) * own[None, :].to(total.dtype)
    tl.store(gradients + token * COUNT + slot, tl.sum(total, 1), mask=slot < COUNT)
