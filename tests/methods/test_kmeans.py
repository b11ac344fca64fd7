from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support.leaks import assert_no_leak, codes_r2
from tests.support.materials import material_of, of_tokens
from usae.methods.fitting.material import Material
from usae.methods.kmeans import fit, lloyd
from usae.methods.runs.variants import START
from usae.sae.sparse import SparseCodes

A, B = [0, 0, 10, 10], [5, 5, -5, -5]


def r2_of(material: Material) -> dict[tuple[str, str], float]:
    (reading,) = fit(material)
    models = material.models
    return {(i, j): codes_r2(reading.concepts, material, i, j) for i in models for j in models}


@pytest.mark.parametrize("seed", range(5))
def test_clusters_that_both_models_have_are_translated_wholly(tmp_path, seed):
    material = material_of(tmp_path, {"a": of_tokens(A), "b": of_tokens(B)}, seed=seed)
    assert list(r2_of(material).values()) == pytest.approx([1.0] * 4)


def test_clusters_of_one_model_say_nothing_of_another(tmp_path):
    """The clusters are a's; b is as often 5 as -5 in each."""
    material = material_of(tmp_path, {"a": of_tokens([0, 0, 100, 100]), "b": of_tokens([5, -5, 5, -5])})
    r2 = r2_of(material)
    assert r2["a", "a"] == pytest.approx(1)
    assert r2["a", "b"] == pytest.approx(0)


def test_the_nearest_centroids_fire_and_the_nearest_is_decoded(tmp_path):
    rows = of_tokens([0.0, 4, 10])
    material = material_of(tmp_path, {"a": rows, "b": rows + 1}, concepts=3, k=2)
    concepts = fit(material)[0].concepts
    codes = concepts.encode({"a": torch.tensor([[3.0], [9.0]])})["a"]
    centroid = concepts.centroids["a"][codes.indices.numpy(), 0]
    np.testing.assert_allclose(centroid, [[4, 0], [10, 4]], atol=1e-5)
    assert codes.values.tolist() == [[1, 1], [1, 1]]
    np.testing.assert_allclose(concepts.decode("b", codes)[:, 0], [5, 11], atol=1e-5)
    nothing = SparseCodes(codes.indices, torch.zeros(2, 2))
    np.testing.assert_allclose(concepts.decode("b", nothing)[:, 0], rows.mean() + 1, atol=1e-5)


def test_centroids_are_the_means_of_their_members():
    rows = torch.tensor([[0.0, 0], [0, 2], [10, 0], [10, 2], [30, 1]])
    cluster = lloyd(rows, rows[[0, 2, 4]])
    assert cluster.tolist() == [0, 0, 1, 1, 2]


def test_before_the_first_round_centroids_are_drawn_tokens(tmp_path):
    rows = np.random.default_rng(0).normal(size=(30, 2, 3))
    material = material_of(tmp_path, {"a": rows, "b": rows}, concepts=5)
    concepts = fit(replace(material, run=START))[0].concepts
    tokens = rows.reshape(-1, 3).astype(np.float32)
    distance = np.linalg.norm(concepts.centroids["a"][:, None] - tokens, axis=2).min(axis=1)
    np.testing.assert_allclose(distance, 0, atol=1e-5)


def test_models_that_are_the_same_translate_as_they_reconstruct(tmp_path):
    rows = np.random.default_rng(0).normal(size=(30, 2, 3))
    r2 = r2_of(material_of(tmp_path, {"a": rows, "b": rows}, concepts=5))
    assert len({round(value, 9) for value in r2.values()}) == 1


def test_the_order_of_models_and_channels_does_not_matter(tmp_path):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(30, 2, 3)), rng.normal(size=(30, 2, 4))
    one = r2_of(material_of(tmp_path / "one", {"a": a, "b": b}, concepts=5))
    two = r2_of(material_of(tmp_path / "two", {"b": b[..., ::-1], "a": a}, concepts=5))
    assert {pair: two[pair] for pair in one} == pytest.approx(one, abs=1e-6)


def test_fewer_tokens_than_clusters_give_nothing(tmp_path):
    assert fit(material_of(tmp_path, {"a": of_tokens(A), "b": of_tokens(B)}, concepts=5)) == []


def test_held_out_tokens_of_another_model_do_not_matter(tmp_path):
    rng = np.random.default_rng(0)
    rows = {"a": rng.normal(size=(20, 4, 3)), "b": rng.normal(size=(20, 4, 2))}
    assert_no_leak(fit, material_of(tmp_path, rows, concepts=4, k=2), tmp_path)
