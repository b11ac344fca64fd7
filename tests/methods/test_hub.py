import numpy as np
import pytest
import torch

from tests.support.leaks import assert_no_leak, codes_r2
from tests.support.materials import material_of, sae_with
from usae.common.numerics.ridge import ridge_maps
from usae.common.types import Pair
from usae.methods.fitting.material import Material
from usae.methods.fitting.own import own_codes
from usae.methods.hub import code_products, fit

TURN = np.array([[0.0, 1.0], [-1.0, 0.0]])


def r2_of(material: Material) -> dict[str, dict[Pair, float]]:
    models = material.models
    return {
        reading.form: {(i, j): codes_r2(reading.concepts, material, i, j) for i in models for j in models}
        for reading in fit(material)
    }


def turned(folder, concepts=4, order=slice(None)):
    """b is a, turned and shifted; c has nothing to do with either."""
    rng = np.random.default_rng(0)
    a, c = rng.normal(size=(60, 4, 2)), rng.normal(size=(60, 4, 3))
    rows = {"a": a, "b": a @ TURN + 3, "c": c}
    concepts_of = {m: np.random.default_rng(1).normal(size=(concepts, v.shape[2])) for m, v in rows.items()}
    alone = {m: sae_with({m: values[order]}, 2) for m, values in concepts_of.items()}
    return material_of(folder, rows, alone=alone, concepts=concepts, k=2)


def test_a_hub_by_itself_is_its_own_sae(tmp_path):
    material = turned(tmp_path)
    tokens = {"a": torch.randn(5, 2, generator=torch.Generator().manual_seed(0))}
    hub, own = fit(material)[0].concepts, material.alone["a"]
    codes, expected = hub.encode(tokens)["a"], own.encode(tokens)["a"]
    np.testing.assert_allclose(codes.dense(4), expected.dense(4).detach(), atol=1e-5)
    np.testing.assert_allclose(hub.decode("a", codes), own.decode("a", expected).detach(), atol=1e-5)


def test_a_model_that_is_a_linear_map_of_the_hub_has_all_its_concepts(tmp_path):
    material = turned(tmp_path)
    forms = r2_of(material)
    assert list(forms) == ["hub-a", "hub-b", "hub-c"]
    of_a = forms["hub-a"]
    assert of_a["b", "a"] == pytest.approx(of_a["a", "a"], abs=1e-4)
    assert of_a["b", "b"] == pytest.approx(of_a["a", "b"], abs=1e-4)
    assert of_a["b", "b"] > of_a["a", "a"] - 1e-3  # the regression may do better than the SAE's own rows
    assert of_a["a", "c"] < 0.05


def test_decoders_are_the_regressions_of_the_least_penalty_of_all(tmp_path):
    material = turned(tmp_path)
    spans = {m: slice(4 + span.start, 4 + span.stop) for m, span in material.spans.items() if m != "a"}
    expected = ridge_maps(*code_products(material, "a"), slice(0, 4), spans)
    decoders = fit(material)[0].concepts.decoders
    for model, each in expected.items():
        np.testing.assert_allclose(decoders[model].weights, each.weights, atol=1e-6)
        np.testing.assert_allclose(decoders[model].offset, each.offset, atol=1e-6)


def test_models_that_are_the_same_have_the_same_codes(tmp_path):
    rows = np.random.default_rng(0).normal(size=(40, 2, 3))
    material = material_of(tmp_path, {"a": rows, "b": rows}, concepts=3, k=2)
    concepts = fit(material)[0].concepts
    raw = torch.from_numpy(rows.astype(np.float32)).flatten(0, 1)
    one, other = (concepts.encode({model: raw})[model].dense(3) for model in "ab")
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_order_of_concepts_and_models_does_not_matter(tmp_path):
    one, two = r2_of(turned(tmp_path / "one")), r2_of(turned(tmp_path / "two", order=[2, 0, 3, 1]))
    for form, values in one.items():
        assert two[form] == pytest.approx(values, abs=1e-4)


def test_a_code_of_one_adds_a_vector_of_the_universal_saes_norm(tmp_path):
    material = turned(tmp_path)
    rows = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    before, r2 = own_codes(material, "a", rows).toarray(), r2_of(material)
    material.units.part("a").gain.fill_(2.0)
    np.testing.assert_allclose(own_codes(material, "a", rows).toarray(), before / 2, atol=1e-6)
    hub = fit(material)[0].concepts
    np.testing.assert_allclose(np.linalg.norm(hub.decoders["a"].weights, axis=1), 2, atol=1e-6)
    assert r2_of(material)["hub-a"] == pytest.approx(r2["hub-a"], abs=1e-4)


def test_levels_are_the_hubs(tmp_path):
    rows = np.random.default_rng(0).normal(size=(40, 2, 3))
    alone = {"a": sae_with({"a": np.eye(3)}, 2, coarse=(1,)), "b": sae_with({"b": np.eye(3)}, 2)}
    readings = fit(material_of(tmp_path, {"a": rows, "b": rows}, alone=alone, concepts=3, k=2))
    assert [reading.concepts.levels.ends for reading in readings] == [(1, 3), (3,)]


def test_maps_of_re_paired_images_carry_nothing(tmp_path):
    assert r2_of(turned(tmp_path).repaired())["hub-a"]["b", "a"] < 0.2


def test_one_model_alone_is_its_own_hub(tmp_path):
    rows = np.random.default_rng(0).normal(size=(20, 2, 3))
    assert r2_of(material_of(tmp_path, {"a": rows}, concepts=3, k=3))["hub-a"]["a", "a"] > 0.4


def test_held_out_tokens_of_another_model_do_not_matter(tmp_path):
    assert_no_leak(fit, turned(tmp_path), tmp_path)
