"""For each concept, the weighted sum of the rows that chose it: Z^T X without Z, in a fixed order, no atomics.

The entries of Z are sorted by concept, in row order within one. A concept may have one entry or as many as there
are rows, so its entries are cut into pieces of equal length: one program adds up a piece, another the pieces of a
concept. How many pieces there are is known to the GPU alone; there are programs for as many as there may be.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from usae.training.step.kernels.gathering import SLOTS, columns_of_tile, sum_type

PIECE = 64  # entries


@dataclass(frozen=True)
class Grouping:
    """The entries of Z by concept. order: entries, sorted; starts: first of each concept, and the end (c + 1,).

    pieces: first of each concept, and the end (c + 1,). owners: concept of each piece; past the end: c.
    """

    order: Int[Tensor, " entries"]
    starts: Int[Tensor, " ends"]
    pieces: Int[Tensor, " ends"]
    owners: Int[Tensor, " most"]
    codes: int  # of a token

    @classmethod
    def of(cls, indices: Int[Tensor, "n k"], concepts: int) -> "Grouping":
        """Sort the entries; waits for nothing."""
        small = torch.int16 if concepts <= torch.iinfo(torch.int16).max else torch.int32
        chosen, order = indices.flatten().to(small).sort(stable=True)
        edges = torch.arange(concepts + 1, device=chosen.device, dtype=small)
        starts = torch.searchsorted(chosen, edges)  # (c + 1,)
        pieces = ((starts.diff() + PIECE - 1) // PIECE).cumsum(0)
        most = len(order) // PIECE + min(concepts, len(order))
        owners = torch.searchsorted(pieces, torch.arange(most, device=order.device), right=True)
        return cls(order, starts, torch.cat([pieces.new_zeros(1), pieces]), owners, indices.shape[1])

    def sum(self, values: Float[Tensor, "n k"], rows: Float[Tensor, "n d"]) -> Float[Tensor, "c d"]:
        """Of the rows, by the entries' values."""
        rows = rows if rows.stride(1) == 1 else rows.contiguous()
        width, tile = rows.shape[1], columns_of_tile(rows)
        added = rows.new_empty(len(self.owners), width, dtype=sum_type(rows))
        total = rows.new_empty(len(self.starts) - 1, width, dtype=added.dtype)
        blocks, sizes = triton.cdiv(width, tile), {"SLOTS": SLOTS, "COLUMNS": tile}
        where = self.order, self.starts, self.pieces, self.owners
        given = values.contiguous(), rows, added, rows.stride(0), width, len(total)
        _add_pieces[(len(added), blocks)](*where, *given, CODES=self.codes, PIECE=PIECE, **sizes)
        _add_concepts[(len(total), blocks)](self.pieces, added, total, width, **sizes)
        return total

    def sum_values(self, values: Float[Tensor, "n k"]) -> Float[Tensor, " c"]:
        """Of the values alone."""
        return self.sum(values, values.new_ones(len(values), 1)).squeeze(1)


@triton.jit
def _add_pieces(
    order,
    starts,
    pieces,
    owners,
    values,
    rows,
    added,
    stride,
    width,
    concepts,
    CODES: tl.constexpr,
    PIECE: tl.constexpr,
    SLOTS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    piece = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    concept = tl.load(owners + piece)
    if concept < concepts:
        begin = tl.load(starts + concept) + (piece - tl.load(pieces + concept)) * PIECE
        end = tl.minimum(begin + PIECE, tl.load(starts + concept + 1))
        total = tl.zeros((SLOTS, COLUMNS), added.dtype.element_ty)
        for first in range(begin, end, SLOTS):
            place = first + tl.arange(0, SLOTS)
            entry = tl.load(order + place, mask=place < end, other=0)
            value = tl.load(values + entry, mask=place < end, other=0.0)
            there = (place < end)[:, None] & (column < width)[None, :]
            row = tl.load(rows + (entry // CODES)[:, None] * stride + column[None, :], mask=there, other=0.0)
            total += value[:, None].to(total.dtype) * row.to(total.dtype)
        tl.store(added + piece * width + column, tl.sum(total, 0), mask=column < width)


@triton.jit
def _add_concepts(pieces, added, total, width, SLOTS: tl.constexpr, COLUMNS: tl.constexpr):
    concept = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    end = tl.load(pieces + concept + 1)
    sums = tl.zeros((SLOTS, COLUMNS), total.dtype.element_ty)
    for first in range(tl.load(pieces + concept), end, SLOTS):
        piece = first + tl.arange(0, SLOTS)
        there = (piece < end)[:, None] & (column < width)[None, :]
        sums += tl.load(added + piece.to(tl.int64)[:, None] * width + column[None, :], mask=there, other=0.0)
    tl.store(total + concept * width + column, tl.sum(sums, 0), mask=column < width)
