"""What was saved says which method it is of."""

import json
import sys
from types import ModuleType

import pytest

from usae.common.errors import UserError
from usae.evidence.estimators import load_estimator
from usae.sae.estimator import Estimator
from usae.sae.universal import UniversalSAE


def test_a_universal_sae_is_loaded_as_such(tmp_path):
    UniversalSAE({"a": 4, "b": 6}, 8, 2).save_pretrained(tmp_path)
    estimator = load_estimator(tmp_path)
    assert isinstance(estimator, UniversalSAE)
    assert isinstance(estimator, Estimator)


def test_another_method_is_loaded_by_its_name(tmp_path, monkeypatch):
    UniversalSAE({"a": 4, "b": 6}, 8, 2).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"method": "another"}))
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
