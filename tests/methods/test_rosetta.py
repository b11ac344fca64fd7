from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support.leaks import assert_no_leak
from tests.support.materials import material_of
from usae.methods.rosetta import channel_correlations, fit, published
from usae.methods.runs.variants import START

R = np.array([[0.9, 0.8], [0.85, 0.1]])
BOTH = {("a", "b"): R, ("b", "a"): R.T}


def rows(width=4, seed=0, images=40):
    return np.random.default_rng(seed).normal(size=(images, 4, width))


def tuples(reading):
    channels = reading.concepts.channels
    return {tuple(each) for each in np.column_stack(list(channels.values())).tolist()}


def test_the_published_rule_is_top_one_of_the_hub_among_the_top_n_of_the_other():
    assert published(BOTH, ("a", "b"), "a", 2).tolist() == [[0, 0], [1, 0]]
    assert published(BOTH, ("a", "b"), "a", 1).tolist() == [[0, 0]]
    assert published(BOTH, ("a", "b"), "b", 1).tolist() == [[0, 0]]


@pytest.mark.parametrize("form", [0, 1])
def test_equal_models_have_a_tuple_of_every_channel(tmp_path, form):
    values = rows()
    reading = fit(material_of(tmp_path, {"a": values, "b": values, "c": values}, concepts=8))[form]
    assert reading.form == ("cliques", "published")[form]
    assert tuples(reading) == {(n, n, n) for n in range(4)}
    assert (reading.numbers["tuples"], reading.numbers["tuples_r"]) == (4, pytest.approx(1, abs=1e-6))
    np.testing.assert_allclose(list(reading.r2.values()), 1, atol=1e-6)
    np.testing.assert_allclose(list(reading.others.values()), 1, atol=1e-6)
    assert reading.numbers["r2_cross_random"] == pytest.approx(1, abs=1e-6)  # all channels there are


def test_a_tuple_fires_as_often_as_codes_do_and_where_its_channel_is_high(tmp_path):
    values = rows(images=200)
    reading = fit(material_of(tmp_path, {"a": values, "b": 3 * values + 7}, concepts=8, k=2))[0]
    raw = torch.from_numpy(values.reshape(-1, 4).astype(np.float32))
    codes = reading.concepts.encode({"a": raw})["a"].dense(4).numpy()
    np.testing.assert_allclose((codes > 0).mean(axis=0), 2 / 8, atol=0.002)
    scaled = (values.reshape(-1, 4) - values.mean(axis=(0, 1))) / values.std(axis=(0, 1))
    order = reading.concepts.channels["a"]
    np.testing.assert_allclose(codes[codes > 0], scaled[:, order][codes > 0], atol=1e-4)
    other = reading.concepts.encode({"b": 3 * raw + 7})["b"].dense(4).numpy()
    np.testing.assert_allclose(other, codes, atol=1e-4)


def test_the_channels_that_fire_are_decoded_as_they_are_and_the_others_at_their_mean(tmp_path):
    values = rows() + 5
    reading = fit(material_of(tmp_path, {"a": values, "b": values}, concepts=8, k=2))[0]
    raw = torch.from_numpy(values.reshape(-1, 4).astype(np.float32))
    codes = reading.concepts.encode({"a": raw})["a"]
    fires = codes.dense(4).numpy()[:, np.argsort(reading.concepts.channels["a"])] > 0
    expected = np.where(fires, raw, values.mean(axis=(0, 1)))
    np.testing.assert_allclose(reading.concepts.decode("b", codes), expected, atol=1e-4)


def test_a_channel_that_never_changes_in_one_model_is_in_no_tuple(tmp_path):
    values = rows()
    silent = values.copy()
    silent[..., 2] = 1.5
    cliques, wider = fit(material_of(tmp_path, {"a": values, "b": silent}, concepts=8))
    assert tuples(cliques) == {(n, n) for n in (0, 1, 3)}
    assert 2 not in {b for _, b in tuples(wider)}


def test_channels_in_another_order_give_the_same_tuples(tmp_path):
    values, noisy, order = rows(), rows() + 0.5 * rows(seed=1), [2, 0, 3, 1]
    one = fit(material_of(tmp_path / "one", {"a": values, "b": noisy}, concepts=8))[0]
    two = fit(material_of(tmp_path / "two", {"a": values, "b": noisy[..., order]}, concepts=8))[0]
    assert tuples(one) == {(i, order[j]) for i, j in tuples(two)}
    assert two.r2 == pytest.approx(one.r2, abs=1e-6)


def test_a_channel_of_the_other_sign_has_no_partner(tmp_path):
    values = rows()
    flipped = values * [1, -1, 1, 1]
    assert tuples(fit(material_of(tmp_path, {"a": values, "b": flipped}, concepts=8))[0]) == {
        (n, n) for n in (0, 2, 3)
    }


def test_correlations_are_those_of_all_training_tokens(tmp_path):
    a, b = rows(3), rows(2, seed=1)
    material = material_of(tmp_path, {"a": a, "b": b})
    found = channel_correlations(material.products[0].merged(material.products[1]), material.spans)
    expected = np.corrcoef(np.concatenate([a, b], axis=2).reshape(-1, 5).T)[:3, 3:]
    np.testing.assert_allclose(found["a", "b"], expected, atol=1e-5)
    np.testing.assert_allclose(found["b", "a"], expected.T, atol=1e-5)


def test_without_tuples_there_is_their_number_alone(tmp_path):
    values = rows(1)
    reading = fit(material_of(tmp_path, {"a": values, "b": -values}, concepts=8))[0]
    assert reading.concepts is None
    assert dict(reading.numbers) == {"tuples": 0}


def test_no_sae_takes_part_and_one_model_has_no_partner(tmp_path):
    material = material_of(tmp_path, {"a": rows(), "b": rows()})
    assert fit(replace(material, run=START)) == []
    assert fit(material_of(tmp_path / "one", {"a": rows()})) == []


def test_held_out_tokens_of_another_model_do_not_matter(tmp_path):
    values = {"a": rows(), "b": rows() + 0.5 * rows(seed=1), "c": rows(3, seed=2)}
    assert_no_leak(fit, material_of(tmp_path, values, concepts=8), tmp_path / "other")
