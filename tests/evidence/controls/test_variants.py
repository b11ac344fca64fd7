import numpy as np
import pandas as pd
import pytest

from usae.common.params import parse_params
from usae.common.seeds import seed_of
from usae.common.variant import Variant
from usae.evidence.controls.halves import halves
from usae.evidence.controls.names import beside_controls
from usae.evidence.controls.variants import controls, independent

IMAGES = 3000
MODELS = ("supervised", "distilled", "language")
UNTRAINED = ("untrained-supervised", "untrained-distilled", "untrained-language")


def test_every_control_differs_from_the_run_in_one_thing(params):
    run, found = Variant(16, 0, "matched", MODELS), controls(params, IMAGES)
    seeds = [seed_of(0, "half", half) for half in range(2)]
    assert found == {
        "seed-1": Variant(16, 1, "matched", MODELS),
        "half-1": Variant(16, seeds[0], "matched", MODELS, half=0),
        "half-2": Variant(16, seeds[1], "matched", MODELS, half=1),
        "shuffled": Variant(16, 0, "shuffled", MODELS),
        "untrained": Variant(16, 0, "matched", UNTRAINED),
        **{f"shuffled-{model}": Variant(16, 0, "shuffled", MODELS, stranger=model) for model in MODELS},
        "untrained-supervised": Variant(16, 0, "matched", (UNTRAINED[0], *MODELS[1:])),
        "untrained-distilled": Variant(16, 0, "matched", (MODELS[0], UNTRAINED[1], MODELS[2])),
        "untrained-language": Variant(16, 0, "matched", (*MODELS[:2], UNTRAINED[2])),
    }
    assert run not in found.values()


def test_more_on_request(raw_params):
    raw_params["controls"] |= {"seeds": 0, "k": [8, 32]}
    found = controls(parse_params(raw_params), IMAGES)
    assert list(found)[-2:] == ["k-8", "k-32"]
    assert [found[name].k for name in ("k-8", "k-32")] == [8, 32]
    assert not [name for name in found if name.startswith("seed-")]


@pytest.mark.parametrize(
    ("models", "names"),
    [
        (["language"], ["seed-1", "half-1", "half-2", "shuffled", "untrained"]),
        (
            ["language", "distilled"],
            ["seed-1", "half-1", "half-2", "shuffled", "untrained", "untrained-language", "untrained-distilled"],
        ),
    ],
)
def test_fewer_models_have_fewer_ways_to_be_a_stranger(raw_params, models, names):
    params = parse_params(raw_params).model_copy(update={"models": tuple(models)})
    assert list(controls(params, IMAGES)) == names


@pytest.mark.parametrize("less", [{"images": 2999}, {"epochs": 5}, {"epochs": 7}])
def test_a_twin_stands_for_the_run_where_the_controls_learn_from_another_portion(raw_params, less):
    raw_params["controls"] |= less
    params = parse_params(raw_params)
    names = list(controls(params, IMAGES))
    assert names[:2] == ["twin", "seed-1"]
    assert controls(params, IMAGES)["twin"] == Variant(16, 0, "matched", MODELS)
    assert beside_controls(["usae", *names]) == "twin"


@pytest.mark.parametrize("same", [{"images": None}, {"images": 3000}, {"images": 9999}, {"epochs": 6}])
def test_the_run_is_its_own_twin_where_the_portion_is_the_same(raw_params, same):
    raw_params["controls"] |= same
    names = list(controls(parse_params(raw_params), IMAGES))
    assert "twin" not in names
    assert beside_controls(["usae", *names]) == "usae"


def test_independent_saes_start_elsewhere_and_have_equal_updates(raw_params):
    found = independent(parse_params(raw_params))
    assert list(found) == [f"{kind}-{model}" for kind in ("independent", "brief") for model in MODELS]
    for model in MODELS:
        whole, brief = found[f"independent-{model}"], found[f"brief-{model}"]
        assert whole.models == brief.models == (model,)
        assert (whole.share_of_steps, brief.share_of_steps) == (1, 3)
        assert whole.seed == brief.seed != raw_params["seed"]
    assert len({variant.seed for variant in found.values()}) == 3


@pytest.mark.parametrize(
    ("update", "sources", "shares"),
    [
        ("all", "each", {"independent": 1, "brief": 3}),
        ("all", "all", {"independent": 1}),
        ("source", "all", {"independent": 1}),
        ("source", "each", {"independent": 1, "brief": 3}),
    ],
)
def test_equal_updates_with_several_sources(raw_params, update, sources, shares):
    raw_params["train"] |= {"update": update, "sources": sources}
    found = independent(parse_params(raw_params))
    expected = {f"{kind}-{model}": share for kind, share in shares.items() for model in MODELS}
    assert {name: variant.share_of_steps for name, variant in found.items()} == expected


def test_where_the_source_alone_steps_one_budget_is_equal_for_both(raw_params):
    raw_params["train"] |= {"update": "source", "sources": "one"}
    found = independent(parse_params(raw_params))
    assert list(found) == [f"independent-{model}" for model in MODELS]
    assert {variant.share_of_steps for variant in found.values()} == {3}


def test_halves_have_no_image_in_common_and_the_same_classes():
    classes = pd.Series(np.random.default_rng(0).integers(0, 7, 101)).astype("Int64")
    classes[:10] = pd.NA
    one, other = halves(classes, 0)
    assert sorted([*one, *other]) == list(range(101))
    assert (np.diff(one) > 0).all()
    assert (np.diff(other) > 0).all()
    known = classes.fillna(-1).to_numpy(dtype=int)
    counts = [np.bincount(known[half] + 1, minlength=8) for half in (one, other)]
    assert (abs(counts[0] - counts[1]) <= 1).all()
    assert not np.array_equal(one, halves(classes, 1)[0])
