import numpy as np
import pytest

from usae.evidence.codes.rows import code_rows, fired, fired_rows
from usae.evidence.codes.store import CodeChunk

THRESHOLD = np.float32(0.1)
ABOVE = np.nextafter(THRESHOLD, np.float32(1))


@pytest.fixture
def chunk():
    """Two images of two tokens, k = 2; the threshold itself, the next number above it, and an unused slot."""
    indices = np.array([[[3, 1], [0, 2]], [[1, 0], [4, 3]]], dtype=np.uint16)
    values = np.array([[[THRESHOLD, 0.5], [ABOVE, 0.0]], [[0.05, 0.0], [1.0, 2.0]]], dtype=np.float32)
    return CodeChunk(np.array([7, 8]), indices, values)


def test_fires_are_the_codes_above_the_threshold_in_float32(chunk):
    token, concept = fired(chunk, 0.1)  # as a float64, 0.1 is below its float32
    assert token.tolist() == [0, 1, 3, 3]
    assert concept.tolist() == [1, 0, 4, 3]


def test_rows_of_fires_are_those_of_the_codes_above_the_threshold(chunk):
    rows = fired_rows(chunk, 6, 0.1)
    assert rows.dtype == np.int32
    np.testing.assert_array_equal(rows.toarray(), code_rows(chunk, 6).toarray() > THRESHOLD)
    assert fired_rows(chunk, 6, 5.0).nnz == 0
