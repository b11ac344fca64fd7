"""Codes as sparse rows, one per token, and which concepts fire on which tokens."""

import numpy as np
from scipy import sparse

from usae.common.types import Array
from usae.evidence.codes.store import CodeChunk


def code_rows(chunk: CodeChunk, concepts: int) -> sparse.csr_array:
    """(images * tokens, c) the codes of a chunk."""
    rows = np.repeat(np.arange(chunk.tokens), chunk.indices.shape[2])
    columns = chunk.indices.ravel().astype(np.int64)
    values = chunk.values.ravel().astype(np.float64)
    kept = values > 0
    return sparse.csr_array((values[kept], (rows[kept], columns[kept])), shape=(chunk.tokens, concepts))


def fired(chunk: CodeChunk, threshold: float) -> tuple[Array, Array]:
    """(fires,) token and concept of every code above `threshold`, by token, numbered through the chunk's images.

    The comparison is made in float32, the precision of the codes: a code equal to the threshold does not fire.
    """
    slots = np.flatnonzero(chunk.values > np.float32(threshold))
    return slots // chunk.indices.shape[2], chunk.indices.ravel()[slots]


def fired_rows(chunk: CodeChunk, concepts: int, threshold: float) -> sparse.csr_array:
    """(images * tokens, c) 1 where the concept fires on the token, int32."""
    token, concept = fired(chunk, threshold)
    ones = np.ones(len(token), dtype=np.int32)
    return sparse.csr_array((ones, (token, concept.astype(np.int64))), shape=(chunk.tokens, concepts))
