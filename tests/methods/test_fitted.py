"""What holds for every method without training."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from tests.support.leaks import codes_r2
from tests.support.materials import material_of, sae_with
from usae.common.methods import method_module
from usae.common.types import Pair
from usae.methods.fitting.material import Material
from usae.methods.runs.variants import START

METHODS = ("linear", "kmeans", "hub", "matched", "atlas", "rosetta")
WIDTHS = {"a": 6, "b": 8, "c": 7}
CAUSES, K = 5, 2


def world(folder, models="abc") -> Material:
    """Sparse causes, seen by each model through a map of its own, with a little noise."""
    causes = np.random.default_rng(0).random((60, 9, CAUSES)) ** 4
    maps = {
        model: np.random.default_rng([1, WIDTHS[model]]).normal(size=(CAUSES, WIDTHS[model])) for model in models
    }
    noise = {
        model: np.random.default_rng([2, WIDTHS[model]]).normal(size=(60, 9, WIDTHS[model])) for model in models
    }
    rows = {model: causes @ maps[model] + 0.05 * noise[model] for model in models}
    alone = {model: sae_with({model: directions}, K) for model, directions in maps.items()}
    return material_of(folder, rows, alone=alone, concepts=CAUSES, k=K)


def r2_by_form(method: str, material: Material) -> dict[str, Mapping[Pair, float]]:
    pairs = [(i, j) for i in material.models for j in material.models]
    return {
        reading.form: reading.r2 or {pair: codes_r2(reading.concepts, material, *pair) for pair in pairs}
        for reading in method_module(method).fit(material)
        if reading.r2 or reading.concepts is not None
    }


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_the_models_does_not_matter(tmp_path, method):
    one = r2_by_form(method, world(tmp_path / "one"))
    two = r2_by_form(method, world(tmp_path / "two", models="cab"))
    assert set(one) == set(two) != set()
    for form, values in one.items():
        assert {pair: two[form][pair] for pair in values} == pytest.approx(values, abs=2e-3), form


@pytest.mark.parametrize("models", ["a", "ab", "abc"])
@pytest.mark.parametrize("method", METHODS)
def test_every_number_is_one_whatever_the_run_and_the_models(tmp_path, method, models):
    material = world(tmp_path, models)
    forms = {reading.form for reading in method_module(method).fit(material)}
    for run in (material, replace(material, run=START), material.repaired()):
        for reading in method_module(method).fit(run):
            assert reading.form in forms
            assert np.isfinite(list(reading.numbers.values())).all()
            if reading.concepts is not None:
                assert reading.concepts.models == material.models
                value = codes_r2(reading.concepts, material, models[0], models[-1])
                assert np.isfinite(value)


@pytest.mark.parametrize("method", METHODS)
def test_concepts_are_directions_or_nothing(tmp_path, method):
    for reading in method_module(method).fit(world(tmp_path)):
        if reading.concepts is None:
            continue
        for model, width in WIDTHS.items():
            dictionary = reading.concepts.dictionary(model).detach().numpy()
            assert dictionary.shape == (reading.concepts.concepts, width)
            norms = np.linalg.norm(dictionary, axis=1)
            np.testing.assert_allclose(norms[norms > 0], 1, atol=1e-5)
