"""Codes as sparse rows, one per token."""

import numpy as np
from scipy import sparse

from usae.evidence.codes.store import CodeChunk


def code_rows(chunk: CodeChunk, concepts: int) -> sparse.csr_array:
    """(images * tokens, c) the codes of a chunk."""
    rows = np.repeat(np.arange(chunk.tokens), chunk.indices.shape[2])
    columns = chunk.indices.ravel().astype(np.int64)
    values = chunk.values.ravel().astype(np.float64)
    kept = values > 0
    return sparse.csr_array((values[kept], (rows[kept], columns[kept])), shape=(chunk.tokens, concepts))
