"""Stage `compare` over whole small runs: of one model, of two, and of three in another order."""

import pytest

from tests.support.comparable import compared, finished, numbers, reordered
from usae.methods.comparison.tables import METHOD_SHARING, METHODS
from usae.methods.runs.variants import SHUFFLED

SIZE = {"dictionary": 12, "batch_images": 8, "levels": None, "init": "paired"}
RUNGS = ("usae_all", "sparc_local", "sparc", "sparc_even", "crosscoder_unit")
DRAWN = ("significant", "agreement", "beyond controls", "shared")  # by re-pairings, one model after another
SINGLE, OTHERS = "single", "others"


@pytest.fixture(scope="module")
def small(module_params):
    """Params of a small run that compares these methods."""

    def sized(trained, fitted, epochs=1):
        methods = {"trained": trained, "fitted": fitted, "epochs": None, "images": None, "nulls": False}
        train = SIZE | {"epochs": epochs}
        sections = {"methods": methods, "train": train, "measure": {"permutations": 3}, "controls": {"seeds": 0}}
        changed = {name: getattr(module_params, name).model_copy(update=new) for name, new in sections.items()}
        return module_params.model_copy(update={"k": 2, **changed})

    return sized


def test_of_one_model_all_are_one_sae_and_nothing_is_said_of_others(small, tmp_path):
    tables = compared(
        tmp_path, finished(tmp_path, small((*RUNGS, "crosscoder"), ("linear", "hub", "matched"), 3), "a")
    )
    assert set(tables[METHODS]["method"]) == {"usae", *RUNGS, "crosscoder", "linear", "hub"}
    assert set(tables[METHODS]["mode"].dropna()) == {SINGLE}
    assert "r2_cross_mean" not in set(tables[METHODS]["measure"])
    assert set(tables[METHOD_SHARING]["relative_norm"]) == {1.0}
    r2 = numbers(tables, "measure")
    for method in RUNGS:
        form = "masked" if method == "crosscoder_unit" else ""
        for run in ("run", "start"):
            whole = r2[method, form, run, "r2_self_mean"]
            assert whole == pytest.approx(r2["usae", "", run, "r2_self_mean"], abs=0.02), (method, run)


def test_of_two_models_all_others_are_the_other_one(small, tmp_path):
    tables = compared(
        tmp_path, finished(tmp_path, small(("sparc", "crosscoder"), ("linear", "hub", "rosetta")), "ab")
    )
    runs = tables[METHODS].groupby("method")["run"].agg(set)
    assert runs["linear"] == {"run", SHUFFLED}
    assert runs["hub"] == {"run", "start", SHUFFLED}
    r2 = numbers(tables, "mode", "source", "target", "measure")
    others = {key: value for key, value in r2.items() if key[3] == OTHERS and key[5]}
    assert {key[0] for key in others} == {"usae", "sparc", "crosscoder", "linear", "hub", "rosetta"}
    for (*of, _, _, target, measure), value in others.items():
        source = "b" if target == "a" else "a"
        assert r2[(*of, SINGLE, source, target, measure)] == pytest.approx(value, abs=1e-3), of


def test_models_in_another_order_are_the_same_numbers_in_another_order(small, tmp_path):
    params = finished(tmp_path, small(("sparc", "crosscoder"), ("linear",)), "abc")
    columns = ("mode", "source", "target", "measure")
    before = numbers(compared(tmp_path, params), *columns)
    after = numbers(compared(tmp_path, reordered(tmp_path, params, "cab")), *columns)
    assert set(before) == set(after)
    for key, value in before.items():
        if key[-1] not in DRAWN and key[::2][:2] != ("linear", SHUFFLED):
            assert after[key] == pytest.approx(value, abs=1e-3), key
