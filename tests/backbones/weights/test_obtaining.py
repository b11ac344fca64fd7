import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file

from usae.backbones.networks.building import build
from usae.backbones.weights.obtaining import obtain, obtain_untrained, trained
from usae.backbones.weights.pretraining import ARCHITECTURES, shipped
from usae.common.errors import UserError
from usae.common.files.json_files import read_json
from usae.common.params import BackboneParams


def demo(objective, weights):
    architecture = ARCHITECTURES[objective]
    return BackboneParams(timm=architecture["timm"], kwargs=architecture["kwargs"], size=64, weights=weights)


def test_the_demo_is_the_shipped_architectures(params):
    for objective, model in params.zoo.items():
        assert model.backbone.timm == ARCHITECTURES[objective]["timm"]
        assert model.backbone.kwargs.keys() == ARCHITECTURES[objective]["kwargs"].keys()
        fresh = build(demo(objective, "random")).state_dict()
        assert {n: v.shape for n, v in build(model.backbone).state_dict().items()} == {
            n: v.shape for n, v in fresh.items()
        }


def test_shipped_weights_are_pinned_and_probed(tmp_path, params):
    backbone = params.zoo["supervised"].backbone
    identity = obtain(backbone, tmp_path / "w", seed=0)
    assert identity.size == 64
    pinned = load_file(tmp_path / "w" / "model.safetensors")
    assert all(torch.equal(pinned[name], value) for name, value in shipped("supervised").items())
    records = read_json(tmp_path / "w" / "probes.json")["probes"]
    groups = {}
    for record in records:
        groups.setdefault(record["group"], []).append(record["auc_trained"] - record["auc_untrained"])
    assert set(groups) == {"shape", "colour", "texture", "background"}
    assert all(sum(gains) / len(gains) > 0 for gains in groups.values())


def test_random_weights_depend_on_the_seed_alone():
    one, two, other = (trained(demo("language", "random"), seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_untrained_twins_differ_from_the_network_and_from_each_other(tmp_path):
    backbone = demo("language", "shipped:language")
    folders = {name: tmp_path / name for name in ("a", "b", "again")}
    for name, folder in folders.items():
        identity = obtain_untrained(backbone, folder, 0, "a" if name == "again" else name)
        assert identity.weights == "random"
    weights = {name: (folder / "model.safetensors").read_bytes() for name, folder in folders.items()}
    assert weights["a"] == weights["again"] != weights["b"]
    found, expected = load_file(folders["a"] / "model.safetensors"), shipped("language")
    assert found.keys() == expected.keys()
    assert not any(torch.equal(found[name], expected[name]) for name in found if name.endswith("conv1.weight"))


def test_a_local_checkpoint(tmp_path):
    torch.manual_seed(5)
    source = build(demo("language", "random")).state_dict()
    save_file(source, tmp_path / "mine.safetensors")
    backbone = demo("language", str(tmp_path / "mine.safetensors"))
    obtain(backbone, tmp_path / "w", seed=0)
    pinned = load_file(tmp_path / "w" / "model.safetensors")
    assert all(torch.equal(pinned[name], value) for name, value in source.items())
    assert not (tmp_path / "w" / "probes.json").exists()


def test_an_objective_that_there_is_not():
    with pytest.raises(UserError, match="the demo's objectives are supervised, distilled, language"):
        trained(demo("language", "shipped:lingual"), 0)


def test_the_hub_out_of_reach_says_which_stage_needs_it(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    backbone = BackboneParams(timm="resnet18.a1_in1k", weights="hub")
    with pytest.raises(
        UserError, match=r"'resnet18.a1_in1k' could not be downloaded: .*give a checkpoint file as `weights`"
    ):
        trained(backbone, 0)
