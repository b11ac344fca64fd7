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
PAIRS = 2**16  # that are looked at at once


@dataclass(frozen=True)
class PackedFiring:
    """One model's fires in some images, counted from 0; a pair is an image and a concept that fires in it.

    `image` and `concept` (pairs,) int32, by image and then concept; `bits` (pairs, words) uint64, one bit per
    token; `tokens`: of an image; `images`, `concepts`: how many there are.
    """

    tokens: int
    images: int
    concepts: int
    image: Array
    concept: Array
    bits: Array

    @cached_property
    def slot(self) -> Array:
        """(images, c) int32: the row of each pair, -1 where the concept does not fire; made where it is asked."""
        slot = np.full((self.images, self.concepts), -1, dtype=np.int32)
        slot[self.image, self.concept] = np.arange(len(self.image))
        return slot

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
    own, concept = (each.astype(np.int32) for each in np.divmod(pairs, concepts))
    return PackedFiring(tokens, images, concepts, own, concept, bits)


def joined(chunks: Sequence[PackedFiring]) -> PackedFiring:
    """Several chunks as one; their images follow each other."""
    first = np.cumsum([0, *(chunk.images for chunk in chunks)])
    return PackedFiring(
        chunks[0].tokens,
        int(first[-1]),
        chunks[0].concepts,
        np.concatenate([chunk.image + np.int32(n) for chunk, n in zip(chunks, first, strict=False)]),
        np.concatenate([chunk.concept for chunk in chunks]),
        np.concatenate([chunk.bits for chunk in chunks]),
    )


def together(members: Sequence[PackedFiring]) -> PackedFiring:
    """Where all members fire, of the same images; a member alone is itself."""
    (first, *others) = sorted(members, key=lambda member: len(member.image))
    if not others:
        return first
    parts = [_common(first, others, span) for span in spans(first)]
    return PackedFiring(
        first.tokens, first.images, first.concepts, *(np.concatenate(each) for each in zip(*parts, strict=True))
    )


def spans(firing: PackedFiring) -> list[slice]:
    """The pairs, PAIRS at a time: what is made of them on the way stays small. One at least."""
    return [slice(start, start + PAIRS) for start in range(0, max(1, len(firing.image)), PAIRS)]


def _common(first: PackedFiring, others: Sequence[PackedFiring], span: slice) -> tuple[Array, Array, Array]:
    """Image, concept and bits of the pairs of a span of the first in which all others fire too."""
    image, concept, bits = first.image[span], first.concept[span], first.bits[span]
    for other in others:
        rows = other.slot[image, concept]
        common = bits & other.bits[rows]
        both = (rows >= 0) & common.any(axis=1)
        image, concept, bits = image[both], concept[both], common[both]
    return image, concept, bits


def popcount(bits: Array) -> Array:
    """(rows,) number of ones in each row of (rows, words)."""
    return np.asarray(np.bitwise_count(bits).sum(axis=1, dtype=np.int64))
