"""`usae check` and `usae start` as a user calls them, on real folders and networks with random weights."""

import copy
import os

import pytest
import yaml

from tests.conftest import ROOT
from usae.activations.commands import check, start
from usae.activations.commands.outlook import outlook
from usae.activations.commands.recipe import common_grid, params_text, sizes, split
from usae.common.params import ModelParams, load_params, parse_params
from usae.common.params.yaml_text import read_yaml

NETWORK = {"backbone": {"timm": "test_resnet", "weights": "random", "size": 64}, "layer": -1, "norm": True}


@pytest.fixture
def own(raw_params, image_folder, tmp_path, monkeypatch) -> dict:
    """Parameters without a fault, of a folder and two networks; the working folder has the presets."""
    (tmp_path / "presets").symlink_to(ROOT / "presets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("USAE_STORE", raising=False)
    raw = {**raw_params, "models": ["one", "other"]}
    raw["images"] = {**raw["images"], "source": "folder", "path": str(image_folder), "train": None, "val": None}
    raw["extract"] = {**raw["extract"], "grid": 2}
    raw["zoo"] = {"one": NETWORK, "other": {**NETWORK, "layer": 2}}
    return copy.deepcopy(raw)


def checked(raw, tmp_path, capsys):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    status = check.main([])
    return status, capsys.readouterr().out


def test_a_sound_file(own, tmp_path, capsys):
    (tmp_path / "pictures" / "class0" / "broken.jpg").unlink()
    status, said = checked(own, tmp_path, capsys)
    assert status == 0
    assert "images: 11 training + 1 held-out images (held out by seed) of 12, 3 classes" in said
    assert "one: test_resnet, 64 pixels in, 2 x 2 places of width 96, 0.5 million parameters" in said
    assert "tokens: 2 x 2 an image, 48 of each model" in said
    bytes_ = 2 * 48 * (96 + 48) * 2  # trained and untrained, tokens, widths, float16
    assert f"stores: {bytes_ / 1000:.1f}kB below data/activations (" in said
    assert "note: `train.dictionary` is 256 for 44 training tokens of each model" in said
    assert "note: `encode.train_images` asks for 600, but there are 11 training images" in said
    assert said.endswith("params.yaml: no faults\n")
    assert set(os.listdir(tmp_path)) == {"pictures", "presets", "params.yaml"}


def test_all_faults_come_at_once(own, tmp_path, capsys):
    own["train"]["epoch"] = own["train"].pop("epochs")
    own["images"]["path"] = "nowhere"
    own["extract"]["grid"] = 40
    own["runtime"]["device"] = "cuda"
    own["zoo"]["third"] = {**NETWORK, "layer": 9}
    own["zoo"]["fourth"] = {**NETWORK, "backbone": {"timm": "test_resnt", "weights": "random"}}
    own["models"] += ["third", "fourth"]
    status, said = checked(own, tmp_path, capsys)
    assert status == 1
    for fault in (
        "`train.epoch` is not a parameter. Did you mean `train.epochs`?",
        "`images.path` is 'nowhere', which is not a folder here",
        "`zoo.third`: 'test_resnet' has no layer 9",
        "Unknown model (test_resnt). Did you mean test_resnet or",
        "`extract.grid` is 40, more than 4 times the finest map of the models, 8 x 8 (`other`).",
    ):
        assert fault in said, fault
    assert "params.yaml: " in said


def test_a_device_of_no_kind_is_one_fault(own):
    own["runtime"]["device"] = "banana"
    assert outlook(own).faults == ["`runtime.device` is 'banana'; expected auto, cpu, cuda or cuda:NUMBER."]


def test_copies_and_grids_are_noted_and_a_single_model_is_a_fault(own):
    own["zoo"]["other"] = own["zoo"]["one"]
    own["extract"]["grid"] = 3
    notes = "\n".join(outlook(own).notes)
    assert "`one` and `other` are copies" in notes
    assert "`extract.grid` is 3, finer than the finest map, 2 x 2 (`one`): that adds no detail." in notes
    assert "1 of 13 images that were looked at are no images by their header" in notes
    own["models"] = ["one"]
    (fault,) = outlook(own).faults
    assert fault.startswith("`models` names one alone: nothing can be shared;")


def test_no_room_is_a_fault(own, monkeypatch):
    monkeypatch.setattr("usae.activations.store.location.free_bytes", lambda path: 1000)
    (fault,) = outlook(own).faults
    assert fault.startswith("There is no room for the activations: ")


@pytest.mark.parametrize("raw", [None, [], {"models": 3, "zoo": 4}, {"models": ["a"], "zoo": {"a": None}}])
def test_what_is_no_mapping_has_faults_and_no_traceback(raw):
    assert outlook(raw).faults


def test_a_file_that_is_not_there(tmp_path, capsys):
    assert check.main([str(tmp_path / "none.yaml")]) == 1
    assert "does not exist here" in capsys.readouterr().err


@pytest.mark.usefixtures("own")
def test_start_writes_what_check_and_the_stages_take(tmp_path, image_folder, capsys):
    command = ["--images", str(image_folder), "--models", "test_resnet=random", "test_vit=random"]
    assert start.main(command) == 0
    said = capsys.readouterr().out
    assert said.endswith("params.yaml is written. Next:  dvc repro   # then open reports/index.html\n")
    params = load_params(tmp_path / "params.yaml")
    assert params.models == ("test_resnet", "test_vit")
    assert (params.images.source, params.images.path) == ("folder", str(image_folder))
    assert (params.extract.grid, params.train.dictionary, params.train.batch_images) == (10, 128, 10)
    assert params.interventions.onboarding_images == (10,)
    assert check.main([]) == 0
    text = (tmp_path / "params.yaml").read_text()
    assert text.index("models:") < text.index("zoo:") < text.index("images:") < text.index("The rest seldom")


@pytest.mark.usefixtures("own")
def test_start_loses_nothing(tmp_path, image_folder, capsys):
    command = ["--images", str(image_folder), "--models", "test_resnet=random", "test_resnet=random"]
    file = tmp_path / "params.yaml"
    file.write_text((ROOT / "presets" / "demo.yaml").read_text())
    start.refuse_losing(file)
    file.write_text(file.read_text().replace("seed: 0", "seed: 5"))
    assert start.main(command) == 1
    assert "params.yaml is there and is no preset" in capsys.readouterr().err
    assert load_params(file).seed == 5
    assert start.main([*command, "--force"]) == 0
    assert load_params(file).models == ("test_resnet", "test_resnet-2")
    assert "`test_resnet` and `test_resnet-2` are copies" in capsys.readouterr().out


@pytest.mark.usefixtures("own")
def test_start_names_all_that_is_wrong_and_writes_nothing(tmp_path, capsys):
    assert start.main(["--images", "nowhere", "--models", "test_resnt=random", "test_vit=none.pt"]) == 1
    said = capsys.readouterr().err
    for fault in (
        "'nowhere', which is not a folder",
        "Unknown model (test_resnt). Did you mean",
        "'none.pt' does not",
    ):
        assert fault in said
    assert not (tmp_path / "params.yaml").exists()


def test_the_preset_is_what_start_writes_for_ten_thousand_images(monkeypatch):
    monkeypatch.chdir(ROOT)
    preset = (ROOT / "presets" / "own.yaml").read_text()
    raw = read_yaml(preset)
    models = {slug: ModelParams(**entry) for slug, entry in raw["zoo"].items()}
    cut = {f"images.{key}": value for key, value in split({"all": 10_000}).items()}
    assert read_yaml(params_text(models, cut | sizes(9000, common_grid([14, 16])))) == raw


@pytest.mark.parametrize("train", [1, 11, 160, 900, 9000, 10_000])
@pytest.mark.parametrize("grid", [1, 4, 7, 16])
def test_every_size_is_valid(train, grid, own):
    models = {slug: ModelParams(**entry) for slug, entry in own["zoo"].items()}
    params = parse_params(read_yaml(params_text(models, {"images.path": "a b: #c", **sizes(train, grid)})))
    assert params.images.path == "a b: #c"
    assert params.train.levels[0] * 8 == params.train.dictionary


def test_grids():
    assert [common_grid(sides) for sides in ([7, 14], [14, 16], [16, 16], [28], [7], [4, 28])] == [
        14,
        14,
        16,
        16,
        7,
        8,
    ]


def test_many_images_are_cut_to_an_evening():
    assert split({"all": 1_281_167}) == {"train": 10_000, "val": 1_000, "val_share": 0.1}
    assert split({"train": 150, "val": 5000}) == {"train": None, "val": 1_000, "val_share": 0.1}
    assert split({"all": 200}) == {"train": None, "val": None, "val_share": 0.2}
