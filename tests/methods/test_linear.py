from dataclasses import replace

import numpy as np
import pytest

from tests.support.leaks import assert_no_leak
from tests.support.materials import material_of
from usae.common.numerics.ridge import Products
from usae.common.numerics.shared_coordinates import shared_coordinates
from usae.methods.linear import fit, shared_r2
from usae.methods.runs.variants import START


def worlds(images=40, tokens=4):
    """c is a without its third channel, turned; b has nothing to do with either."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(images, tokens, 3)), rng.normal(size=(images, tokens, 2))
    return {"a": a, "b": b, "c": a[..., :2] @ np.array([[0.0, 1.0], [-1.0, 0.0]])}


@pytest.fixture
def material(tmp_path):
    return material_of(tmp_path, worlds(), concepts=4, k=1)


def test_the_forms_and_their_ceilings(material):
    ridge, rank, shared = fit(material)
    assert (ridge.form, rank.form, shared.form) == ("ridge", "rank-1", "mcca-1")
    assert ridge.concepts is rank.concepts is shared.concepts is None
    assert ridge.r2["a", "c"] == pytest.approx(1, abs=1e-6)
    assert ridge.r2["c", "a"] == pytest.approx(2 / 3, abs=0.1)
    assert abs(ridge.r2["a", "b"]) < 0.1
    assert ridge.others["c"] == pytest.approx(1, abs=1e-6)
    assert all(rank.r2[pair] <= value + 1e-9 for pair, value in ridge.r2.items())
    assert rank.r2["a", "c"] == pytest.approx(1 / 2, abs=0.1)


def test_rank_one_of_a_diagonal_map_explains_four_fifths(tmp_path):
    """White input, B = (2, 1): the first direction carries 4 of 5 parts."""
    white = np.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]] * 10)[:, None]
    _, rank, _ = fit(material_of(tmp_path, {"a": white, "b": white * [2.0, 1.0]}, k=1))
    assert rank.r2["a", "b"] == pytest.approx(0.8, abs=1e-6)


def test_shared_dimensions_are_those_beyond_re_paired_images(material):
    numbers = fit(material)[-1].numbers
    assert set(numbers) == {"shared_correlation_1", "shared_dimensions"}
    assert numbers["shared_dimensions"] == 2  # of a and c
    assert fit(material.repaired())[-1].numbers["shared_dimensions"] == 0


def test_shared_coordinates_of_one_signal_decode_every_model():
    rows = np.random.default_rng(0).normal(size=(100, 1)) @ np.ones((1, 3))
    sums = Products.none(np.zeros(3))
    sums.update(rows)
    spans = {model: slice(n, n + 1) for n, model in enumerate("abc")}
    shared = shared_coordinates(sums.about(sums.mean), spans, penalty=0)
    r2 = shared_r2(shared, sums, sums, spans, 1)
    np.testing.assert_allclose(list(r2.values()), 1, atol=1e-9)
    assert len(r2) == 9


def test_maps_of_re_paired_images_find_nothing(material):
    ridge, _, _ = fit(material.repaired())
    assert ridge.r2["a", "c"] < 0.2


def test_no_sae_takes_part_so_a_start_has_no_row(material):
    assert fit(replace(material, run=START)) == []


def test_one_model_alone_has_ceilings_of_itself(tmp_path):
    ridge, _ = fit(material_of(tmp_path, {"a": worlds()["a"]}))
    assert set(ridge.r2) == {("a", "a")}
    assert ridge.others == {}


def test_held_out_tokens_of_another_model_do_not_matter(material, tmp_path):
    assert_no_leak(fit, material, tmp_path)
