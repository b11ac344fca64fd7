"""What was saved says which method it is of."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from usae.common.errors import UserError
from usae.common.files.json_files import read_json, write_json
from usae.evidence.estimators import contribution_norms, level_ends, load_estimator
from usae.sae.estimator import Estimator
from usae.sae.sparse import SparseCodes
from usae.sae.universal import UniversalSAE


def test_a_universal_sae_is_loaded_as_such(tmp_path):
    UniversalSAE({"a": 4, "b": 6}, 8, 2).save_pretrained(tmp_path)
    estimator = load_estimator(tmp_path)
    assert isinstance(estimator, UniversalSAE)
    assert isinstance(estimator, Estimator)


def test_another_method_is_loaded_by_its_name(tmp_path, monkeypatch):
    UniversalSAE({"a": 4, "b": 6}, 8, 2).save_pretrained(tmp_path)
    write_json(tmp_path / "config.json", read_json(tmp_path / "config.json") | {"method": "another"})
    with pytest.raises(UserError, match="There is no method 'another': usae/methods/another.py does not exist"):
        load_estimator(tmp_path)

    class Another(UniversalSAE):
        pass

    module = ModuleType("usae.methods.another")
    module.ESTIMATOR = Another
    monkeypatch.setitem(sys.modules, "usae.methods", ModuleType("usae.methods"))
    monkeypatch.setitem(sys.modules, "usae.methods.another", module)
    assert isinstance(load_estimator(tmp_path), Another)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="There is no SAE in"):
        load_estimator(tmp_path / "nothing")


def test_a_method_without_levels_has_one():
    class Flat:
        concepts = 8

    assert level_ends(UniversalSAE({"a": 4}, 8, 2)) == level_ends(Flat()) == (8,)
    assert level_ends(UniversalSAE({"a": 4}, 8, 3, coarse=(2, 4))) == (2, 4, 8)


def test_the_norm_of_a_contribution_is_the_models_gain():
    estimator = UniversalSAE({"a": 4, "b": 6}, 8, 2)
    estimator.part("b").gain.fill_(1.5)
    norms = contribution_norms(estimator, ["b", "a"])
    np.testing.assert_allclose(norms, [[1.5] * 8, [1] * 8], rtol=1e-6)
    code = torch.tensor([[3]]), torch.tensor([[2.0]])
    decoded = estimator.decode("b", SparseCodes(*code)).norm().item()
    assert decoded == pytest.approx(2 * norms[0, 3], rel=1e-6)
