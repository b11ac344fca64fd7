"""Cheating methods are caught by the helper that every method is asked with."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from tests.support.leaks import assert_no_leak, codes_r2
from tests.support.materials import material_of
from usae.common.types import Pair
from usae.methods.fitting.material import Material
from usae.methods.fitting.reading import Reading
from usae.sae.sparse import SparseCodes
from usae.sae.universal import UniversalSAE


@dataclass(frozen=True)
class Delegating:
    """As the universal SAE, but for what a cheat does in another way."""

    sae: UniversalSAE
    material: Material

    def __getattr__(self, name):
        return getattr(self.sae, name)

    def held_out(self, model):
        store = self.material.held_out[model]
        return torch.from_numpy(np.array(store.take(range(store.images)))).reshape(-1, store.width)


class SeesTheTarget(Delegating):
    """Answers with the target's own held-out tokens, whatever the codes are."""

    def decode(self, model, codes):
        return self.sae.standardise(model, self.held_out(model)).reshape(*codes.values.shape[:-1], -1)


class ReadsTheOthers(Delegating):
    """Codes of a model grow with what the others hold at the same place."""

    def encode(self, tokens):
        extra = sum(float(self.held_out(model).abs().mean()) for model in self.sae.models if model not in tokens)
        return {
            model: SparseCodes(codes.indices, codes.values + extra)
            for model, codes in self.sae.encode(tokens).items()
        }


def honest(material: Material) -> list[Reading]:
    return [Reading(concepts=material.units)]


def known_r2(material: Material) -> list[Reading]:
    """R2 that is better the larger the tokens of all models are."""
    size = float(np.trace(material.test.about(material.test.mean)))
    pairs: list[Pair] = [(i, j) for i in material.models for j in material.models]
    return [Reading(r2=dict.fromkeys(pairs, 1 - 1 / size))]


@pytest.fixture
def material(tmp_path) -> Material:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20, 4, 3))
    return material_of(tmp_path, {"a": rows, "b": rows[..., ::-1], "c": rng.normal(size=(20, 4, 2))}, concepts=3)


def test_an_honest_method_passes(material, tmp_path):
    assert_no_leak(honest, material, tmp_path)


@pytest.mark.parametrize(
    ("cheat", "why"), [(SeesTheTarget, "tells a's noise"), (ReadsTheOthers, "know a's held-out tokens")]
)
def test_concepts_that_know_other_models_are_caught(material, tmp_path, cheat, why):
    def fit(material: Material) -> list[Reading]:
        return [Reading(concepts=cheat(material.units, material))]

    with pytest.raises(AssertionError, match=why):
        assert_no_leak(fit, material, tmp_path)


def test_r2_that_knows_other_models_is_caught(material, tmp_path):
    with pytest.raises(AssertionError, match="to b|tells"):
        assert_no_leak(known_r2, material, tmp_path)


def test_the_target_s_tokens_would_have_an_r2_of_one(material):
    cheat = SeesTheTarget(material.units, material)
    assert codes_r2(cheat, material, "a", "b") == pytest.approx(1)
    assert codes_r2(material.units, material, "a", "b") < 0.9
