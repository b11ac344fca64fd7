"""The coarse concept that a finer one goes with, against correlations of dense fires."""

import numpy as np
import pandas as pd
import pytest

from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.firing.counts import FiringCounts
from usae.evidence.metrics.firing.refinement import Refinement, levels_of, phi


def codes_of(fires):
    """One model's codes of one image, from (tokens, concepts) fires: 1 where it fires, 0.1 where it does not."""
    values = np.where(np.array(fires, dtype=bool), 1, 0.1).astype(np.float32)[None]
    return CodeChunk(np.arange(1), np.broadcast_to(np.arange(values.shape[2]), values.shape), values)


def columns_of(ends, *parts):
    refinement, firing = Refinement(ends, 0.1), FiringCounts(len(parts[0]), ends[-1], 0.1)
    for codes in parts:
        refinement.update(codes)
        firing.update(codes)
    return refinement.columns(firing)


def test_a_concept_refines_the_one_of_the_largest_phi():
    fires = [  # 0, 1, 2 are coarse
        [1, 0, 0, 1, 0, 1, 0, 1],
        [1, 0, 0, 0, 0, 1, 0, 1],
        [0, 1, 1, 0, 1, 1, 0, 0],
        [0, 1, 1, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 0, 0],
        [1, 0, 0, 0, 0, 1, 0, 1],
    ]
    found = columns_of((3, 8), (codes_of(fires),))
    assert found["level"].tolist() == [1, 1, 1, 2, 2, 2, 2, 2]
    parents = [None, None, None, 0, 1, None, None, 0]  # 4: of two equal ones the first; 5 always fires, 6 never
    assert [None if pd.isna(parent) else parent for parent in found["refines"]] == parents
    assert found["refines"].dtype == "Int32"
    least = (6 * 1 - 3 * 1) / np.sqrt(3 * 3 * 1 * 5)
    expected = [np.nan] * 3 + [least, 1, np.nan, np.nan, 1]
    np.testing.assert_allclose(found["refines_phi"], expected, rtol=1e-12)


def test_what_is_not_above_chance_refines_nothing():
    """3 fires independently of 0 and against 1, 2 fires where 1 does not, as often as not with 0."""
    fires = [[1, 0, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 0, 0]]
    found = columns_of((2, 4), (codes_of(fires),))
    assert found["refines"].isna().all()
    assert found["refines_phi"].isna().all()


def test_models_are_counted_together():
    """In one model 2 fires with 0, in the other three times with 1."""
    one, other = [[1, 0, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0]], [[0, 1, 1], [0, 1, 1], [0, 1, 1], [0, 0, 0]]
    found = columns_of((2, 3), (codes_of(one), codes_of(other)))
    assert found["refines"].iloc[2] == 1
    assert found["refines_phi"].iloc[2] == pytest.approx((8 * 3 - 3 * 4) / np.sqrt(3 * 5 * 4 * 4), rel=1e-12)


def test_parents_equal_those_of_dense_correlations(chunks, dense):
    parts, ends = chunks(3), (3, 7, 12)
    found = columns_of(ends, *parts)
    fired = dense(parts).reshape(-1, 12)[:, :11] > np.float32(0.1)  # (models * tokens, concepts); 11 never fires
    for concept in range(3, 11):
        before = slice(0, 3) if concept < 7 else slice(3, 7)
        dense_phis = np.corrcoef(fired.T)[concept, before]
        if dense_phis.max() > 0:
            assert found["refines"].iloc[concept] == before.start + dense_phis.argmax()
            assert found["refines_phi"].iloc[concept] == pytest.approx(dense_phis.max(), rel=1e-9)
        else:
            assert pd.isna(found["refines"].iloc[concept])
    assert found["refines"].iloc[3:].notna().sum() > 4
    assert pd.isna(found["refines"].iloc[11])


def test_merged_counts_are_those_of_one_pass(chunks):
    parts, whole, halves = chunks(2), Refinement((4, 12), 0.1), [Refinement((4, 12), 0.1) for _ in range(2)]
    for number, codes in enumerate(parts):
        whole.update(codes)
        halves[min(number, 1)].update(codes)
    halves[0].merge(halves[1])
    np.testing.assert_array_equal(halves[0].cofires[0], whole.cofires[0])
    assert whole.cofires[0].shape == (8, 4)
    assert whole.cofires[0].sum() > 0


def test_one_level_refines_nothing(chunks):
    found = columns_of((12,), *chunks(2))
    assert found["level"].tolist() == [1] * 12
    assert found["refines"].isna().all()
    assert found["refines_phi"].isna().all()


def test_phi_of_many_tokens_is_exact():
    """Independent fires of 10^9 tokens: rounded products would leave something."""
    third, half = np.array([333_333_333]), np.array([500_000_000])
    tokens = 999_999_999
    assert phi(np.array([[166_666_666]]), third, half, tokens)[0, 0] < 0
    assert phi(np.array([[166_666_667]]), third, half, tokens)[0, 0] > 0
    assert phi(np.array([[111_111_111]]), third, third, tokens)[0, 0] == 0


def test_levels_are_numbered_from_the_coarsest():
    assert levels_of((1, 3, 6)).tolist() == [1, 2, 2, 3, 3, 3]
