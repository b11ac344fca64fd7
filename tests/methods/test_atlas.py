from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support.leaks import assert_no_leak, codes_r2
from tests.support.materials import material_of, sae_with
from usae.evidence.metrics.labels.single import LabelledImages
from usae.methods import hub
from usae.methods.atlas import cross_r2, fit
from usae.methods.fitting.material import Material

CAUSES, K = 5, 2


def world(folder, same=False) -> Material:
    """Sparse causes that all models turn; the SAE of each has them as its concepts, or all models are one."""
    rng = np.random.default_rng(0)
    causes = rng.random((60, 9, CAUSES)) * (rng.random((60, 9, CAUSES)) < 0.2)
    turns = {m: np.linalg.qr(rng.normal(size=(w, w)))[0][:CAUSES] for m, w in zip("abc", (6, 8, 7), strict=True)}
    if same:
        turns = dict.fromkeys("abc", turns["a"])
    alone = {model: sae_with({model: rows}, K) for model, rows in turns.items()}
    rows = {model: causes @ turn for model, turn in turns.items()}
    material = material_of(folder, rows, alone=alone, concepts=CAUSES, k=K)
    return replace(material, labelled=dict.fromkeys(("train", "val"), halves(causes.sum(axis=1))))


def halves(sums) -> LabelledImages:
    """Label l is that of the half of the images with most of cause l."""
    return LabelledImages(np.arange(len(sums)), sums > np.median(sums, axis=0))


@pytest.mark.parametrize(("form", "name"), [(0, "procrustes"), (1, "ridge")])
def test_turned_models_are_read_and_written_as_the_atlas_is(tmp_path, form, name):
    material = world(tmp_path)
    reading = fit(material)[form]
    assert reading.form == name
    values = [codes_r2(reading.concepts, material, i, j) for i in "abc" for j in "abc"]
    np.testing.assert_allclose(values, values[0], atol=1e-3)
    assert values[0] > 0.7
    chance = (1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 5
    assert reading.numbers["retrieval_mrr"] == reading.numbers["retrieval_top_1"] == 1
    assert reading.numbers["retrieval_auc"] == 1
    assert reading.numbers["retrieval_mrr_chance"] == pytest.approx(chance)
    assert (reading.numbers["retrieval_top_1_chance"], reading.numbers["retrieval_top_5_chance"]) == (0.2, 1.0)


@pytest.mark.parametrize("form", [0, 1])
def test_models_that_are_the_same_have_the_atlas_codes(tmp_path, form):
    material = world(tmp_path, same=True)
    reading = fit(material)[form]
    raw = torch.from_numpy(np.array(material.held_out["a"].take(range(60)))).flatten(0, 1)
    codes = [reading.concepts.encode({model: raw})[model].dense(CAUSES) for model in "abc"]
    np.testing.assert_allclose(codes[1], codes[0], atol=1e-3)
    np.testing.assert_allclose(codes[2], codes[0], atol=1e-3)
    assert reading.numbers["retrieval_mrr"] == 1


def test_the_codes_of_ridge_are_those_of_the_hub(tmp_path):
    material = world(tmp_path)
    _, ridge = fit(material)
    reading = hub.fit(material)[int(ridge.numbers["hub"])]
    assert reading.form == f"hub-{material.models[int(ridge.numbers['hub'])]}"
    for model in "abc":
        np.testing.assert_allclose(
            ridge.concepts.encoders[model].weights, reading.concepts.encoders[model].weights
        )


def test_the_atlas_is_the_model_whose_concepts_serve_all_best(tmp_path):
    """The SAEs of a and c have concepts, but none that fires."""
    material = world(tmp_path)
    for model in "ac":
        material.alone[model].part(model).encoder.norm.bias.data.fill_(-100)
    assert [material.models[int(reading.numbers["hub"])] for reading in fit(material)] == ["b", "b"]


def test_what_an_atlas_explains_is_asked_of_other_models_alone(tmp_path):
    material = world(tmp_path)
    concepts = fit(material)[0].concepts
    rows = {
        model: np.array(store.take(range(60))).reshape(-1, store.width)
        for model, store in material.held_out.items()
    }
    pairs = [(i, j) for i in "abc" for j in "abc" if i != j]
    expected = np.mean([codes_r2(concepts, material, *pair) for pair in pairs])
    assert cross_r2(concepts, rows) == pytest.approx(expected, abs=1e-3)


def test_translators_of_re_paired_images_find_no_partners(tmp_path):
    for reading in fit(world(tmp_path).repaired()):
        assert reading.numbers["retrieval_mrr"] < 0.8


@pytest.mark.parametrize("form", [0, 1])
def test_turned_models_are_asked_by_label_as_by_their_own_concepts(tmp_path, form):
    numbers = fit(world(tmp_path))[form].numbers
    assert numbers["retrieval_label_code"] == pytest.approx(numbers["retrieval_label_native"], abs=1e-3)
    assert numbers["retrieval_label_native"] > 0.95
    assert numbers["retrieval_label_direction"] > 0.9
    assert numbers["retrieval_label_mrr"] == numbers["retrieval_label_top_1"] == 1
    assert numbers["retrieval_label_top_1_chance"] == pytest.approx(1 / CAUSES)
    assert numbers["retrieval_label_mrr_chance"] == numbers["retrieval_mrr_chance"]
    assert numbers["steering_native"] > 0
    assert numbers["steering_share"] == pytest.approx(1, abs=1e-3)


def test_a_random_concept_is_the_mean_of_all_and_so_is_its_direction(tmp_path):
    """Of the same models: one label is each concept's own, the other four are chance."""
    numbers = fit(world(tmp_path, same=True))[1].numbers
    own, others = numbers["retrieval_label_code"], 0.5
    for kind in ("code", "direction"):
        assert numbers[f"retrieval_label_{kind}_random"] == pytest.approx((own + 4 * others) / CAUSES, abs=0.08)
    assert numbers["steering_share_random"] < 0.9


@pytest.mark.parametrize("form", [0, 1])
def test_translators_of_re_paired_images_find_no_labels(tmp_path, form):
    material = world(tmp_path)
    paired, moved = (fit(each)[form].numbers for each in (material, material.repaired()))
    assert moved["retrieval_label_native"] == paired["retrieval_label_native"]
    for name in ("retrieval_label_code", "retrieval_label_direction", "retrieval_label_mrr", "steering_share"):
        assert moved[name] < paired[name] - 0.2, name


@pytest.mark.parametrize("without", ["train", "val"])
def test_without_labels_of_both_splits_concepts_are_asked_alone(tmp_path, without):
    material = world(tmp_path)
    labelled = {split: images for split, images in material.labelled.items() if split != without}
    names = set(fit(replace(material, labelled=labelled))[0].numbers)
    assert names
    assert not {name for name in names if "label" in name or "steering" in name}


def test_one_model_alone_needs_no_atlas(tmp_path):
    assert fit(material_of(tmp_path, {"a": np.random.default_rng(0).normal(size=(20, 2, 3))})) == []


def test_held_out_tokens_of_another_model_do_not_matter(tmp_path):
    assert_no_leak(fit, world(tmp_path), tmp_path / "other")
