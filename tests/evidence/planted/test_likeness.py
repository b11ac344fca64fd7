"""The smallest correlation between the codes of two models against numpy's."""

from itertools import combinations

import numpy as np
import pytest

from usae.evidence.codes.store import CodeChunk
from usae.evidence.planted.likeness import least_correlations


def test_it_is_the_least_of_numpys_over_all_blocks():
    rng = np.random.default_rng(0)
    dense = rng.random((3, 12, 4, 5)) * (rng.random((3, 12, 4, 5)) < 0.5)  # (models, images, tokens, concepts)
    dense[1] += 0.5 * dense[0]
    dense[2, ..., 4] = 0
    indices = np.broadcast_to(np.arange(5), dense.shape[1:])
    blocks = [
        tuple(CodeChunk(np.arange(12)[part], indices[part], model[part]) for model in dense)
        for part in (slice(0, 5), slice(5, 12))
    ]
    rows = dense.reshape(3, 48, 5)
    expected = [
        min(
            np.corrcoef(rows[one, :, concept], rows[other, :, concept])[0, 1]
            for one, other in combinations(range(3), 2)
        )
        for concept in range(4)
    ]
    assert least_correlations(blocks, 5) == pytest.approx([*expected, 0])
