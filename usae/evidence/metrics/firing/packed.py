"""Which tokens fire, one bit each, for the (image, concept) pairs that fire at all.

A concept fires in few images, so a row of bits per such pair is small, and "fires in both models" is one `&` of
machine words: what makes hundreds of permutations affordable.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from usae.common.types import Array
from usae.evidence.codes.rows import fired
from usae.evidence.codes.store import CodeChunk

WORD = 64


@dataclass(frozen=True)
class PackedFiring:
    """One model's fires in some images, counted from 0; a pair is an image and a concept that fires in it.

    `image` and `concept` (pairs,), by image and then concept; `bits` (pairs, words) uint64, one bit per token;
    `slot` (images, c) int32, the row of each pair, -1 where the concept does not fire. `tokens`: of an image.
    """

    tokens: int
    image: Array
    concept: Array
    bits: Array
    slot: Array

    @cached_property
    def sizes(self) -> Array:
        """(pairs,) how many tokens of the image the concept fires on."""
        return popcount(self.bits)


def pack(chunk: CodeChunk, concepts: int, threshold: float) -> PackedFiring:
    """The codes above `threshold` of one model and chunk."""
    images, tokens, _ = chunk.indices.shape
    row, concept = fired(chunk, threshold)
    image, token = np.divmod(row, tokens)
    cell = image * concepts + concept
    seen = np.zeros(images * concepts, dtype=bool)
    seen[cell] = True
    pairs = np.flatnonzero(seen)
    row_of = np.full(images * concepts, -1, dtype=np.int32)
    row_of[pairs] = np.arange(len(pairs))
    width = -(-tokens // WORD) * WORD
    fires = np.zeros(len(pairs) * width, dtype=bool)
    fires[row_of[cell].astype(np.int64) * width + token] = True
    bits = np.packbits(fires.reshape(-1, width), axis=1).view(np.uint64)
    return PackedFiring(tokens, pairs // concepts, pairs % concepts, bits, row_of.reshape(images, concepts))


def joined(chunks: Sequence[PackedFiring]) -> PackedFiring:
    """Several chunks as one; their images follow each other."""
    images = np.cumsum([0, *(len(chunk.slot) for chunk in chunks)])
    pairs = np.cumsum([0, *(len(chunk.bits) for chunk in chunks)])
    slots = [
        np.where(chunk.slot < 0, -1, chunk.slot + np.int32(n)) for chunk, n in zip(chunks, pairs, strict=False)
    ]
    return PackedFiring(
        chunks[0].tokens,
        np.concatenate([chunk.image + n for chunk, n in zip(chunks, images, strict=False)]),
        np.concatenate([chunk.concept for chunk in chunks]),
        np.concatenate([chunk.bits for chunk in chunks]),
        np.concatenate(slots),
    )


def together(members: Sequence[PackedFiring]) -> PackedFiring:
    """Where all members fire, of the same images."""
    (first, *others) = sorted(members, key=lambda member: len(member.image))
    image, concept, bits = first.image, first.concept, first.bits
    for other in others:
        rows = other.slot[image, concept]
        common = bits & other.bits[rows]
        both = (rows >= 0) & common.any(axis=1)
        image, concept, bits = image[both], concept[both], common[both]
    slot = np.full(first.slot.shape, -1, dtype=np.int32)
    slot[image, concept] = np.arange(len(image))
    return PackedFiring(first.tokens, image, concept, bits, slot)


def popcount(bits: Array) -> Array:
    """(rows,) number of ones in each row of (rows, words)."""
    return np.asarray(np.bitwise_count(bits).sum(axis=1, dtype=np.int64))
