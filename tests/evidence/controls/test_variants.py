from usae.common.params import parse_params
from usae.common.variant import Variant
from usae.evidence.controls.variants import variants

MODELS = ("supervised", "distilled", "language")
UNTRAINED = ("untrained-supervised", "untrained-distilled", "untrained-language")


def test_every_control_differs_from_the_run_in_one_thing(params):
    run = Variant(16, 0, "matched", MODELS)
    assert variants(params) == {
        "seed-1": Variant(16, 1, "matched", MODELS),
        "seed-2": Variant(16, 2, "matched", MODELS),
        "shuffled": Variant(16, 0, "shuffled", MODELS),
        "untrained": Variant(16, 0, "matched", UNTRAINED),
        "untrained-one": Variant(16, 0, "matched", (UNTRAINED[0], *MODELS[1:])),
    }
    assert run not in variants(params).values()


def test_more_on_request(raw_params):
    raw_params["controls"] = {"seeds": 0, "k": [8, 32]}
    controls = variants(parse_params(raw_params))
    assert list(controls) == ["shuffled", "untrained", "untrained-one", "k-8", "k-32"]
    assert [controls[name].k for name in ("k-8", "k-32")] == [8, 32]


def test_a_model_alone_has_no_others_to_be_untrained_among(raw_params):
    raw_params["models"] = ["language"]
    assert list(variants(parse_params(raw_params))) == ["seed-1", "seed-2", "shuffled", "untrained"]
