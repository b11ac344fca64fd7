import copy
import functools
import re
from itertools import product
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from usae.common.errors import UserError
from usae.common.params import load_params, parse_params
from usae.common.params.checks import level_faults
from usae.sae.levels import Levels

ROOT = Path(__file__).parents[3]
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))


def keys(value, prefix=""):
    """Dotted keys of the sections (a zoo differs from preset to preset)."""
    if not isinstance(value, dict) or prefix == "zoo.":
        return {prefix.rstrip(".")}
    return set().union(*(keys(item, f"{prefix}{key}.") for key, item in value.items()))


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_presets_are_valid_and_name_every_key(preset, raw_params):
    load_params(preset)
    assert keys(yaml.safe_load(preset.read_text())) == keys(raw_params)


def test_the_default_is_the_demo(raw_params):
    assert yaml.safe_load((ROOT / "presets" / "demo.yaml").read_text()) == raw_params


def test_every_key_of_the_schema_is_written_out(raw_params):
    """No result may hang on a default that DVC cannot see."""
    for section in (
        "images",
        "extract",
        "train",
        "controls",
        "encode",
        "measure",
        "planted",
        "interventions",
        "maximise",
        "report",
        "runtime",
    ):
        fields = set(getattr(parse_params(raw_params), section).model_dump())
        assert fields == set(raw_params[section]), section


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_every_key_has_a_comment(preset):
    for line in re.sub(r"\nzoo:[^\n]*(\n  [^\n]*)*", "", preset.read_text()).splitlines():
        if re.match(r"^( {2})?[a-z_]+:", line):
            assert "#" in line, line


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_block_style_survives_dvc_rewriting(preset):
    text = re.sub(r"#.*", "", preset.read_text())
    assert "{" not in text
    assert "[" not in text.replace("[]", "")  # an empty list has no other style
    assert "&" not in text


def test_hub_models_carry_their_tags():
    zoo = load_params(ROOT / "presets" / "imagenet.yaml").zoo
    assert {slug: model.backbone.timm for slug, model in zoo.items()} == {
        "siglip": "vit_base_patch16_siglip_224.webli",
        "dinov2": "vit_small_patch14_dinov2.lvd142m",
        "vit": "vit_base_patch16_224.augreg2_in21k_ft_in1k",
    }


def test_misspelt_keys_name_the_closest_and_all_come_at_once(raw_params):
    raw_params["train"]["epoch"] = raw_params["train"].pop("epochs")
    raw_params["kk"] = 3
    raw_params["zoo"]["language"]["layr"] = -2
    with pytest.raises(UserError) as error:
        parse_params(raw_params, "params.yaml")
    text = str(error.value)
    assert text.startswith("'params.yaml' has faults:")
    assert "`train.epoch` is not a parameter. Did you mean `train.epochs`?" in text
    assert "`train.epochs` is missing" in text
    assert "`kk` is not a parameter. Did you mean `k`?" in text
    assert "`zoo.language.layr` is not a parameter. Did you mean `zoo.language.layer`?" in text


@pytest.mark.parametrize(
    ("section", "key", "value", "sentence"),
    [
        ("train", "epochs", 0, "`train.epochs`: input should be greater than or equal to 1, found 0."),
        ("train", "epochs", "eight", "`train.epochs`: input should be a valid integer, found 'eight'."),
        (
            "train",
            "init",
            "pared",
            "`train.init`: input should be 'random', 'paired' or 'clusters', found 'pared'.",
        ),
        ("images", "val_share", 1.5, "`images.val_share`: input should be less than 1, found 1.5."),
    ],
)
def test_types_and_ranges(raw_params, section, key, value, sentence):
    raw_params[section][key] = value
    with pytest.raises(UserError, match=re.escape(sentence)):
        parse_params(raw_params)


def test_one_model_alone_is_refused(raw_params):
    raw_params["models"] = raw_params["models"][:1]
    with pytest.raises(UserError, match=r"names supervised alone: nothing can be shared; name two slugs of `zoo`"):
        parse_params(raw_params)


def test_faults_between_keys_come_together(raw_params):
    raw_params["k"] = 600
    raw_params["train"]["window_images"] = 31
    raw_params["models"] = ["supervised", "supervized", "supervised"]
    raw_params["images"]["source"] = "folder"
    raw_params["controls"]["k"] = [1024, 64, 64]
    raw_params["interventions"]["held_out"] = "clip"
    raw_params["planted"] |= {"dictionary": 40, "train": 8}
    raw_params["planted"]["world"]["most"] = 1
    raw_params["maximise"]["rule"] = "ids"
    raw_params["report"]["images"] = 40
    raw_params["zoo"]["language"]["backbone"]["factory"] = "torch.nn.Identity"
    raw_params["zoo"]["Bad Slug"] = raw_params["zoo"]["supervised"]
    with pytest.raises(UserError) as error:
        parse_params(raw_params)
    for sentence in (
        "`k` is 600 but the dictionary has only 256 concepts; lower `k` or raise `train.dictionary`.",
        "`train.window_images` is 31, less than one batch (`train.batch_images: 64`)",
        "`controls.k` has 1024, more than the 256 concepts there are.",
        "`controls.k` repeats 64; name each k once, and not the top-level `k` (600).",
        "`models` names 'supervized', which has no entry under `zoo`",
        "Did you mean 'supervised'?",
        "`models` names supervised more than once",
        "`planted.dictionary` is 40, but `planted.world` has 101 concepts and `planted.k` is 5; raise it",
        "`planted.world.most` is 1, but all but one of 3 models are at most two; set it to 0, or give",
        "`planted.batch_images` is 32, but `planted.train` is 8; lower it.",
        "`interventions.held_out` is 'clip', which is not in `models`; known there: supervised,",
        "`maximise.rule: ids` takes the concepts that `maximise.ids` lists, found none",
        "`report.images` is 40, but `measure.exemplars` keeps only 12; lower the one or raise the other.",
        "`images.path` is empty, but `images.source: folder` reads from there",
        "`zoo.language.backbone` should name exactly one of `timm` and `factory`.",
        "expected 'module:callable' or 'file.py:callable'",
        "The slug 'Bad Slug' should be up to 64 lower-case letters",
    ):
        assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"levels": [64, 64]},
            "`train.levels` is [64, 64] and `train.dictionary` 512; expected numbers that increase",
        ),
        ({"levels": [512]}, "`train.levels` is [512] and `train.dictionary` 512; expected numbers that increase"),
        ({"levels": [7]}, "makes 2 levels, the smallest with 7 concepts, that share the 16 codes of a token"),
        (
            {"levels": list(range(20, 200, 10))},
            "makes 19 levels, the smallest with 10 concepts, that share the 16",
        ),
        (
            {"levels": [64], "aux": "multi_topk"},
            "`train.aux: multi_topk` is defined for one level; set it to none",
        ),
    ],
)
def test_levels_that_cannot_be(raw_params, changes, sentence):
    raw_params["train"] |= {"dictionary": 512, **changes}
    with pytest.raises(UserError, match=re.escape(sentence)):
        parse_params(raw_params)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"init": "random"},
            "`train.init: random` starts them at no tokens; set `train.init` to paired",
        ),
        (
            {"update": "source"},
            "`train.update: source` moves one model's dictionary alone; set",
        ),
    ],
)
def test_archetypes_that_cannot_be(raw_params, changes, sentence):
    raw_params["train"] |= {"dictionary_rows": "archetypes"}
    assert parse_params(raw_params).train.dictionary_rows == "archetypes"
    raw_params["train"] |= changes
    with pytest.raises(UserError, match=re.escape(sentence)):
        parse_params(raw_params)


def test_levels_that_can_be(raw_params):
    raw_params["train"] |= {"levels": [8, 64]}
    raw_params["planted"]["levels"] = [20]
    assert parse_params(raw_params).train.levels == (8, 64)
    raw_params["planted"]["levels"] = [1]
    with pytest.raises(
        UserError, match=re.escape("`planted.levels` makes 2 levels, the smallest with 1 concepts")
    ):
        parse_params(raw_params)


def test_a_tagless_hub_name_is_refused(raw_params):
    raw_params["zoo"]["supervised"]["backbone"] = {"timm": "vit_base_patch16_siglip_224", "weights": "hub"}
    with pytest.raises(UserError, match="without its weight tag"):
        parse_params(raw_params)


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(UserError, match="cp presets/demo.yaml params.yaml"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("k: [1")
    with pytest.raises(UserError, match="is not valid YAML"):
        load_params(tmp_path / "params.yaml")


def test_a_path_may_be_a_text():
    assert load_params(str(ROOT / "presets/demo.yaml")) == load_params(ROOT / "presets/demo.yaml")


def test_sections_are_frozen(params):
    with pytest.raises(ValidationError, match="frozen"):
        params.k = 3


@pytest.mark.parametrize("wanted", ["tensorboard", "wandb:", "mlflow:here", ""])
def test_an_unknown_tracker_is_refused(raw_params, wanted):
    raw_params["runtime"]["tracker"] = wanted
    sentence = f"`runtime.tracker` is '{wanted}'; expected null, tensorboard:FOLDER or wandb:PROJECT."
    with pytest.raises(UserError, match=re.escape(sentence)):
        parse_params(raw_params)


@pytest.mark.parametrize("wanted", ["tensorboard:runs", "tensorboard:C:/runs", "wandb:usae", None])
def test_known_trackers(raw_params, wanted):
    raw_params["runtime"]["tracker"] = wanted
    assert parse_params(raw_params).runtime.tracker == wanted


def test_what_the_check_lets_through_the_dictionary_takes():
    """The check knows how codes are shared out without knowing the dictionary."""
    for k, coarse, concepts in product((1, 2, 5, 8, 15), (1, 2, 7, 8), (9, 15, 16)):
        faults = level_faults("train", (coarse,), concepts, k)
        if faults:
            with pytest.raises(UserError):
                Levels((coarse, concepts), k)
        else:
            Levels((coarse, concepts), k)


def test_every_k_of_the_controls_fits_the_levels(raw_params):
    raw_params["train"] |= {"dictionary": 256, "levels": [64]}
    raw_params["controls"]["k"] = [32, 200]
    with pytest.raises(UserError, match=re.escape("`controls.k` has 200: `train.levels` makes 2 levels")) as error:
        parse_params(raw_params)
    assert "`controls.k` has 32" not in str(error.value)


def test_more_models_than_can_be_counted_are_refused_before_anything_runs(raw_params):
    raw_params["models"] = [f"m{number}" for number in range(32)]
    raw_params["zoo"] = dict.fromkeys(raw_params["models"], raw_params["zoo"]["supervised"])
    with pytest.raises(UserError, match="`models` names 32 models, .* at most 31; name fewer"):
        parse_params(raw_params)
    raw_params["models"] = raw_params["models"][:31]
    assert len(parse_params(raw_params).models) == 31


def numbers(value, where=()):
    """Every number of the settings, and where it stands."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from numbers(item, (*where, key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield where


def test_no_number_is_infinite_or_larger_than_anything_there_is(raw_params):
    places = [where for where in numbers(raw_params) if where[0] != "zoo" and where[-1] != "seed"]
    assert len(places) > 50
    parsed = parse_params(raw_params)
    for *sections, key in places:
        whole = isinstance(getattr(functools.reduce(getattr, sections, parsed), key), int)
        for value in (float("inf"), float("nan"), *([10**12] if whole else [])):
            changed = copy.deepcopy(raw_params)
            functools.reduce(dict.__getitem__, sections, changed)[key] = value
            with pytest.raises(UserError, match=f"`{'.'.join([*sections, key])}`"):
                parse_params(changed)


@pytest.mark.parametrize("text", ["k: 16\nk: 8\n", "train:\n  epochs: 1\n  epochs: 2\n"])
def test_a_key_that_is_given_twice_is_refused(tmp_path, text):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError, match="is not valid YAML: `(k|epochs)` is given more than once"):
        load_params(tmp_path / "params.yaml")


def test_powers_of_ten_are_numbers_as_they_are_to_dvc(tmp_path, raw_params):
    text = (ROOT / "params.yaml").read_text().replace("learning_rate: 0.04", "learning_rate: 4e-2")
    (tmp_path / "params.yaml").write_text(text)
    assert load_params(tmp_path / "params.yaml") == parse_params(raw_params)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"k: \xff\n", "should be text in UTF-8"), (b"k: &all [*all]\n", "refers to itself .* write it out")],
)
def test_a_file_that_is_no_tree_of_text_is_one_sentence(tmp_path, content, sentence):
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("device", ["banana", "cuda:x", "CPU", ""])
def test_devices_that_there_are_not_are_named(raw_params, device):
    raw_params["runtime"]["device"] = device
    with pytest.raises(
        UserError, match=f"`runtime.device` is '{device}'; expected auto, cpu, cuda or cuda:NUMBER"
    ):
        parse_params(raw_params)
