import sys

import numpy as np
import pytest

from usae.common.errors import UserError
from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.firing import counts as u
from usae.evidence.metrics.firing import patterns

CONCEPTS = 12


def counted(parts, models, threshold=0.1, concepts=CONCEPTS):
    firing = u.FiringCounts(models, concepts, threshold)
    for part in parts:
        firing.update(part)
    return firing


def sparse(*columns):
    """One model's codes for a few tokens, given densely as rows of concepts."""
    values = np.array(columns, dtype=np.float32)[None]  # (1, tokens, concepts)
    indices = np.broadcast_to(np.arange(values.shape[2]), values.shape)
    return CodeChunk(np.arange(1), indices, values)


@pytest.mark.parametrize("models", [1, 2, 3, 4, 9])
def test_counts_equal_a_dense_computation(chunks, dense, models):
    parts = chunks(models)
    codes = dense(parts).reshape(models, -1, CONCEPTS)  # (models, rows, concepts)
    fired = codes > np.float32(0.1)
    firing = counted(parts, models)
    assert firing.tokens == codes.shape[1]
    np.testing.assert_array_equal(firing.fires, fired.sum(axis=1))
    np.testing.assert_array_equal(firing.cofires, fired.all(axis=0).sum(axis=0))
    np.testing.assert_array_equal(firing.active, (codes > 0).sum(axis=1))
    np.testing.assert_array_equal(firing.maxima, codes.max(axis=1))
    np.testing.assert_allclose(firing.mean_codes, codes.mean(axis=1, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(firing.sparsity, (codes > 0).sum(axis=(1, 2)) / codes.shape[1])
    bits = (fired * (1 << np.arange(models))[:, None, None]).sum(axis=0)  # (rows, concepts)
    expected = np.stack([(bits == pattern).sum(axis=0) for pattern in range(1, 2**models)], axis=1)
    concept, pattern = np.nonzero(expected)
    np.testing.assert_array_equal(firing.patterns.rows, [concept, pattern + 1, expected[concept, pattern]])


@pytest.mark.parametrize("models", [2, 3, 4])
def test_pairwise_and_leave_one_out_cofires(chunks, dense, models):
    parts = chunks(models)
    fired = dense(parts).reshape(models, -1, CONCEPTS) > np.float32(0.1)
    firing = counted(parts, models)
    np.testing.assert_array_equal(firing.together([0, 1]), (fired[0] & fired[1]).sum(axis=0))
    for model in range(models):
        others = np.delete(fired, model, axis=0).all(axis=0).sum(axis=0)
        np.testing.assert_array_equal(firing.cofires_without[model], others)


@pytest.mark.parametrize("models", [2, 3, 4])
def test_derived_numbers_equal_their_definitions(chunks, dense, models):
    parts = chunks(models)
    fired = dense(parts).reshape(models, -1, CONCEPTS) > np.float32(0.1)
    firing = counted(parts, models)
    fires, cofires = firing.fires, firing.cofires
    proportion, entropy = u.cofire_proportion(cofires, fires), u.firing_entropy(fires)
    lifts, shared = u.lift(cofires, fires, firing.tokens), u.cofire_proportion_min(cofires, fires)
    for concept in range(CONCEPTS - 1):
        f = fired[:, :, concept].sum(axis=1)
        both = fired[:, :, concept].all(axis=0).sum()
        share = f / f.sum()
        assert entropy[concept] == pytest.approx(-(share * np.log(share)).sum() / np.log(models))
        np.testing.assert_allclose(proportion[:, concept], both / f)
        assert shared[concept] == pytest.approx((both / f).min())
        assert lifts[concept] == pytest.approx(both * float(firing.tokens) ** (models - 1) / np.prod(f * 1.0))
    assert (proportion <= u.cofire_ceiling(fires) + 1e-12)[:, :-1].all()


def test_entropy_is_the_same_in_every_base_and_in_the_authors_form():
    """Natural logarithm over log M (paper), log2 over log2 M with 1e-10 inside (the authors' code)."""
    fires = np.random.default_rng(0).integers(0, 1000, (3, 50))
    fires[:, 0], fires[:, 1], fires[:, 2] = (5, 5, 0), (7, 0, 0), (4, 4, 4)
    share = fires / fires.sum(axis=0)
    natural = -np.where(share > 0, share * np.log(np.maximum(share, 1e-300)), 0).sum(axis=0) / np.log(3)
    authors = -(share * np.log2(share + 1e-10)).sum(axis=0) / np.log2(3)
    found = u.firing_entropy(fires)
    np.testing.assert_allclose(found, natural, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(found, authors, atol=1e-9)
    np.testing.assert_allclose(found[:3], [np.log(2) / np.log(3), 0, 1], atol=1e-15)
    assert round(float(found[0]), 4) == 0.6309


def test_a_concept_that_never_fires_is_nan_and_not_zero(chunks):
    firing = counted(chunks(3), 3)
    fires, cofires = firing.fires, firing.cofires
    assert fires[:, -1].tolist() == [0, 0, 0]
    shares, lifts = u.cofire_proportion_min(cofires, fires), u.lift(cofires, fires, firing.tokens)
    for values in (u.firing_entropy(fires), shares, lifts):
        assert np.isnan(values[-1])
        assert np.isfinite(values[:-1]).all()
    assert np.isnan(u.cofire_proportion(cofires, fires)[:, -1]).all()


def test_a_concept_dead_in_one_model_has_entropy_but_no_universality():
    fires = np.array([[5], [5], [0]])
    assert u.firing_entropy(fires)[0] == pytest.approx(0.6309, abs=5e-5)
    assert np.isnan(u.cofire_proportion_min(np.array([0]), fires)[0])


def test_entropy_is_one_for_equal_rates_and_zero_for_one_model():
    np.testing.assert_allclose(u.firing_entropy(np.array([[7, 7], [7, 0], [7, 0]])), [1, 0], atol=1e-15)
    assert u.firing_entropy(np.array([[3, 0]]))[0] == 0


def test_entropy_does_not_change_when_a_model_is_re_paired_but_cofires_do(chunks, dense):
    parts = chunks(2, images=(40,))
    first, second = parts[0]
    order = np.random.default_rng(1).permutation(40)
    mixed = [(first, CodeChunk(second.images, second.indices[order], second.values[order]))]
    paired, unpaired = counted(parts, 2), counted(mixed, 2)
    np.testing.assert_array_equal(u.firing_entropy(paired.fires), u.firing_entropy(unpaired.fires))
    assert (paired.cofires != unpaired.cofires).any()


def test_energy_is_the_mean_code_for_unit_dictionaries():
    codes = np.random.default_rng(0).gamma(1.0, size=(50, 6))
    rows = np.random.default_rng(1).normal(size=(6, 4))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    direct = np.linalg.norm(codes.mean(axis=0)[:, None] * rows, axis=1)
    np.testing.assert_allclose(u.energy(codes.mean(axis=0)[None], 1.0)[0], direct)
    np.testing.assert_allclose(u.energy(codes.mean(axis=0)[None], np.full((1, 6), 2.0))[0], 2 * direct)


def test_lift_is_one_at_chance_and_grows_with_agreement():
    # 100 tokens, each model fires on 20: chance is 4 co-fires.
    fires = np.full((2, 3), 20)
    np.testing.assert_allclose(u.lift(np.array([4, 20, 0]), fires, 100), [1, 5, 0])
    np.testing.assert_allclose(u.log10_lift(np.array([1, 100, 0, np.nan])), [0, 2, np.nan, np.nan])


def test_a_code_equal_to_the_threshold_in_float32_does_not_fire():
    just = np.float32(0.1)
    above = np.nextafter(just, np.float32(1))
    firing = counted([(sparse([just, above]), sparse([just, above]))], 2, concepts=2)
    assert firing.fires.tolist() == [[0, 1], [0, 1]]
    assert firing.active.tolist() == [[1, 1], [1, 1]]


def test_merged_parts_equal_one_pass(chunks):
    parts = chunks(3)
    whole, left, right = counted(parts, 3), counted(parts[:1], 3), counted(parts[1:], 3)
    left.merge(right)
    assert left.tokens == whole.tokens
    for name in ("fires", "active", "maxima"):
        np.testing.assert_array_equal(getattr(left, name), getattr(whole, name))
    np.testing.assert_array_equal(left.patterns.rows, whole.patterns.rows)
    np.testing.assert_allclose(left.sums, whole.sums, rtol=1e-12)


def test_memory_does_not_grow_with_images(chunks):
    def size(images):
        firing = counted(chunks(3, images=images), 3)
        return sum(sys.getsizeof(value) for value in vars(firing).values())

    assert size((8,) * 20) == size((8,) * 40)


def test_eight_models_and_large_concept_numbers():
    indices = np.full((1, 2, 1), 100_000, dtype=np.uint32)
    chunk = CodeChunk(np.arange(1), indices, np.ones((1, 2, 1), dtype=np.float32))
    firing = counted([(chunk,) * 8], 8, concepts=100_001)
    assert firing.cofires[100_000] == 2
    assert firing.patterns.rows[2].tolist() == [2]


def test_no_fires_at_all():
    firing = counted([(sparse([0.0, 0.0]),) * 2], 2, concepts=2)
    assert len(firing.patterns.rows[2]) == 0
    assert len(u.top_by_energy(firing.mean_codes, 5)) == 0


def test_top_by_energy_orders_by_the_sum_over_models():
    energies = np.array([[0.0, 3.0, 1.0, 0.0], [0.0, 0.0, 5.0, 1.0]])
    assert u.top_by_energy(energies, 2).tolist() == [2, 1]
    assert u.top_by_energy(energies, 10).tolist() == [2, 1, 3]


def test_thirty_one_models_are_counted_and_more_are_refused():
    fires = np.random.default_rng(0).random((31, 1, 50, 2)) < 0.9
    parts = [
        tuple(CodeChunk(np.arange(1), np.broadcast_to(np.arange(2), part.shape), part * 1.0) for part in fires)
    ]
    firing = counted(parts, 31, concepts=2)
    np.testing.assert_array_equal(firing.cofires, fires.all(axis=0).sum(axis=(0, 1)))
    np.testing.assert_array_equal(firing.together([3, 30]), (fires[3] & fires[30]).sum(axis=(0, 1)))
    assert firing.patterns.rows[1].max() < 2**31
    with pytest.raises(UserError, match=r"counted for 1 to 31 models, `models` in params\.yaml names 32"):
        u.FiringCounts(32, 4, 0.1)


def test_sets_that_wait_are_counted_as_those_in_the_table(monkeypatch):
    monkeypatch.setattr(patterns, "WAITING", 3)
    counts, rng, added = patterns.PatternCounts(3, 5), np.random.default_rng(0), np.zeros((5, 8), np.int64)
    for _ in range(20):
        concept, pattern = rng.integers(0, 5, 4), rng.integers(1, 8, 4)
        counts.add(concept, pattern)
        np.add.at(added, (concept, pattern), 1)
    np.testing.assert_array_equal(counts.rows, [*np.nonzero(added), added[added > 0]])
