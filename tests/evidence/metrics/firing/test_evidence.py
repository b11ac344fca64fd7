"""What the funnel is told of a concept."""

import numpy as np
import pytest

from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.firing.counts import FiringCounts
from usae.evidence.metrics.firing.evidence import evidence


def counts(fires):
    """Of dense fires (models, tokens, concepts), one token an image."""
    models, tokens, concepts = fires.shape
    counted = FiringCounts(models, concepts, 0.1)
    indices = np.broadcast_to(np.arange(concepts, dtype=np.uint16), (tokens, 1, concepts))
    counted.update([CodeChunk(np.arange(tokens), indices, one[:, None].astype(np.float32)) for one in fires])
    return counted


def test_agreement_beyond_chance_bars_no_concept_for_coming_often():
    """Two concepts that three models agree on, on half of the tokens and on few; one dead in one."""
    fires = np.zeros((3, 1000, 3), bool)
    fires[:, :500, 0] = fires[:, :20, 1] = True
    fires[:2, :100, 2] = True
    chance = np.array([[[250, 0, 0]] * 4, [[240, 1, 0]] * 4, [[260, 0, 0]] * 4])  # co-fires with one re-paired
    found = evidence(counts(fires), chance)
    assert found["cofire_proportion_min"].tolist()[:2] == [1, 1]
    assert found["agreement_beyond_chance"].tolist()[:2] == pytest.approx([1 - 260 / 500, 1 - 1 / 20])
    assert found["lift"].tolist()[:2] == pytest.approx([500 / 260, 20])  # at most one over the rate
    assert np.isnan(found["agreement_beyond_chance"][2])
