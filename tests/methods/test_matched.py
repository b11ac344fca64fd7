import numpy as np
import pytest
import torch

from tests.support.leaks import assert_no_leak, codes_r2
from tests.support.materials import material_of, sae_with
from usae.common.numerics.partners import Partners
from usae.common.types import Pair
from usae.evidence.metrics.alignment.buddies import best_buddies
from usae.methods.comparison.together import r2_together
from usae.methods.fitting.material import Material
from usae.methods.matched import fit, mutual, renumbered

R = np.array([[0.9, 0.8], [0.85, 0.1]])
CAUSES, K = 5, 5


def world(folder, models="abc", seed=0, blind=()) -> Material:
    """Sparse causes, each model's SAE has them in an order of its own; a blind model lacks cause 0."""
    rng = np.random.default_rng(0)
    train, held_out = (causes(rng, images, 9) for images in (60, 30))
    maps, alone, rows = {}, {}, {}
    for model, width in zip(models, (6, 8, 7), strict=False):
        maps[model] = rng.normal(size=(CAUSES, width))
        maps[model] /= np.linalg.norm(maps[model], axis=1, keepdims=True)
        order = np.random.default_rng([seed, width]).permutation(CAUSES)
        alone[model] = sae_with({model: maps[model][order]}, K)
        rows[model] = [each * (np.arange(CAUSES) > 0) if model in blind else each for each in (train, held_out)]
    splits = [{model: rows[model][split] @ maps[model] for model in models} for split in (0, 1)]
    return material_of(folder, *splits, alone=alone, concepts=CAUSES, k=K)


def causes(rng, images, tokens):
    return rng.random((images, tokens, CAUSES)) * (rng.random((images, tokens, CAUSES)) < 0.2)


def r2_of(material: Material, form: int = 0) -> dict[Pair, float]:
    concepts = fit(material)[form].concepts
    return {(i, j): codes_r2(concepts, material, i, j) for i in material.models for j in material.models}


def test_mutual_pairs_and_the_wider_rule_of_dravid():
    pairs = mutual(R)
    assert (pairs.own.tolist(), pairs.partner.tolist()) == ([0], [0])
    wider = best_buddies(R, 2)
    assert (wider.left.tolist(), wider.right.tolist()) == ([0, 1], [0, 0])


def test_the_wider_rule_takes_no_more_than_so_many_of_a_unit():
    columns = np.array([[0.9, 0.1], [0.8, 0.1], [0.7, 0.1], [0.6, 0.1]])
    assert [best_buddies(columns, most).left.tolist() for most in (1, 2, 3)] == [[0], [0, 1], [0, 1, 2]]


def test_of_units_that_are_equally_near_the_first_is_the_partner():
    pairs = mutual(np.array([[0.9, 0.1], [0.9, 0.2], [0.3, 0.2]]))
    assert (pairs.own.tolist(), pairs.partner.tolist()) == ([0], [0])


@pytest.mark.parametrize("seed", range(20))
def test_mutual_pairs_are_one_to_one_and_the_same_from_both_sides(seed):
    correlations = np.random.default_rng(seed).integers(-1, 3, (9, 7)) / 4  # many are equal
    pairs, back = mutual(correlations), mutual(correlations.T)
    assert sorted(zip(pairs.own, pairs.partner, strict=True)) == sorted(zip(back.partner, back.own, strict=True))
    assert len(set(pairs.own)) == len(set(pairs.partner)) == len(pairs.own) > 0


def test_numbers_are_the_hubs_and_what_is_nobodys_partner_comes_after():
    pairs = {"b": Partners(np.array([1]), np.array([0]), np.array([0.9]))}
    own = renumbered({"a": 2, "b": 3}, "a", pairs)
    assert {model: each.tolist() for model, each in own.items()} == {"a": [0, 1, -1, -1], "b": [-1, 0, 1, 2]}


@pytest.mark.parametrize("form", [0, 1])
def test_causes_that_all_models_have_are_matched_and_translated(tmp_path, form):
    material = world(tmp_path)
    reading = fit(material)[form]
    assert reading.form == ("hungarian", "mutual")[form]
    assert reading.concepts.concepts == CAUSES
    assert reading.numbers["matched_in_all"] == reading.numbers["matched_pairs"] == CAUSES
    assert reading.numbers["matched_r"] == pytest.approx(1, abs=1e-3)
    assert reading.numbers["matched_share_70"] == reading.numbers["nearest_distinct_share"] == 1
    np.testing.assert_allclose(list(r2_of(material, form).values()), 1, atol=2e-3)


def test_codes_of_one_cause_have_one_number(tmp_path):
    material = world(tmp_path)
    concepts = fit(material)[0].concepts
    raw = {m: torch.from_numpy(np.array(store.take(range(30)))) for m, store in material.held_out.items()}
    codes = {model: each.dense(CAUSES).detach() for model, each in concepts.encode(raw).items()}
    np.testing.assert_allclose(codes["a"], codes["b"], atol=1e-3)
    np.testing.assert_allclose(codes["a"], codes["c"], atol=1e-3)


def test_codes_of_several_models_are_averaged_by_number(tmp_path):
    material = world(tmp_path)
    r2 = r2_together(fit(material)[0].concepts, material.held_out)
    assert len(r2) == 6
    np.testing.assert_allclose(list(r2.values()), 1, atol=2e-3)


def test_a_concept_without_a_partner_fires_in_its_model_alone(tmp_path):
    """b is blind to a cause: its concept is silent, whichever number it has."""
    material = world(tmp_path, blind="b")
    reading = fit(material)[0]
    assert reading.numbers["matched_in_all"] == CAUSES - 1
    assert reading.concepts.concepts == CAUSES + 1
    (without,) = np.flatnonzero(reading.concepts.own["b"] < 0)
    assert not reading.concepts.dictionary("b")[without].any()
    r2 = r2_of(material)
    assert r2["a", "c"] == pytest.approx(1, abs=2e-3)
    assert 0.3 < r2["b", "a"] < 0.9  # the cause that b does not see stays at its mean


def test_a_model_with_itself_is_its_own_sae_and_equal_models_translate_as_well(tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 4, 3))
    alone = {model: sae_with({model: np.eye(3)}, 1) for model in "ab"}
    material = material_of(tmp_path, {"a": rows, "b": rows}, alone=alone, concepts=3, k=1)
    r2 = r2_of(material)
    own = codes_r2(alone["a"], material, "a", "a")
    assert r2["a", "a"] == pytest.approx(own, abs=1e-6)
    concepts = fit(material)[0].concepts
    assert concepts.own["a"].tolist() == concepts.own["b"].tolist() == [0, 1, 2]
    assert r2["a", "b"] == pytest.approx(own, abs=1e-4)  # r is 1: the regression changes nothing


def test_the_order_of_concepts_models_and_gains_does_not_matter(tmp_path):
    one, other = (world(tmp_path / str(seed), seed=seed, blind="b") for seed in (1, 2))
    for form in (0, 1):
        assert r2_of(other, form) == pytest.approx(r2_of(one, form), abs=2e-3)
    before = r2_of(one)
    one.units.part("a").gain.fill_(2.0)
    assert r2_of(one) == pytest.approx(before, abs=2e-3)


def test_re_paired_training_images_match_nothing(tmp_path):
    reading = fit(world(tmp_path).repaired())[0]
    assert reading.numbers["matched_in_all"] <= 1
    assert reading.numbers["matched_share_50"] == 0


def test_one_model_alone_has_nothing_to_match(tmp_path):
    assert fit(world(tmp_path, models="a")) == []


def test_held_out_tokens_of_another_model_do_not_matter(tmp_path):
    assert_no_leak(fit, world(tmp_path), tmp_path / "other")
