import dataclasses
import hashlib
import json

import pytest
import torch
from safetensors.torch import save_file

from usae.backbones.networks.backbone import Backbone, pin, read_identity
from usae.backbones.networks.building import build
from usae.backbones.networks.timm_import import timm
from usae.backbones.weights.checkpoints import load_checkpoint
from usae.common.errors import UserError
from usae.common.files.json_files import write_json
from usae.common.params import BackboneParams

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": 5}
TINY = BackboneParams(timm="vit_tiny_patch16_224", kwargs=VIT, weights="random")
FACTORY = """
import torch
from torch import nn

class Plain(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 4, 4)
        self.act = nn.ReLU()

    def forward_intermediates(self, x, indices, norm, output_fmt, intermediates_only):
        maps = [self.conv(x), self.act(self.conv(x))]
        return [maps[i] for i in indices]

class Blind(nn.Module):
    pass
"""

SHARED = """
class Shared(Plain):
    def __init__(self):
        super().__init__()
        self.again = self.conv
"""


def pinned(tmp_path, params=TINY, seed=0):
    torch.manual_seed(seed)
    network = build(params).eval()
    return network, pin(params, tmp_path / "w", network)


def test_pinned_and_loaded_gives_the_same_tokens(tmp_path):
    network, identity = pinned(tmp_path)
    assert read_identity(tmp_path / "w") == identity
    assert identity.size == 32
    assert identity.mean == (0.5, 0.5, 0.5)
    loaded = Backbone.load(tmp_path / "w", layer=1, grid=4)
    pixels = torch.rand(1, 3, 32, 32)
    expected = Backbone(network, identity, layer=1, norm=True, grid=4).tokens(pixels)
    assert torch.equal(loaded.tokens(pixels), expected)


def test_the_same_network_has_the_same_identity(tmp_path):
    assert pinned(tmp_path / "a")[1] == pinned(tmp_path / "b")[1]
    assert pinned(tmp_path / "c", seed=1)[1].sha256 != pinned(tmp_path / "a")[1].sha256


def test_params_override_the_normalisation(tmp_path):
    params = TINY.model_copy(update={"mean": (0.1, 0.2, 0.3), "interpolation": "bilinear"})
    identity = pinned(tmp_path, params)[1]
    assert (identity.mean, identity.std, identity.interpolation) == ((0.1, 0.2, 0.3), (0.5, 0.5, 0.5), "bilinear")


def test_gradients_reach_the_pixels(tmp_path):
    network, identity = pinned(tmp_path)
    pixels = torch.rand(1, 3, 32, 32, requires_grad=True)
    Backbone(network, identity, layer=-1, norm=True, grid=4).tokens(pixels).sum().backward()
    assert pixels.grad.abs().sum() > 0


@pytest.mark.parametrize("layer", [3, -4])
def test_a_layer_that_does_not_exist(tmp_path, layer):
    pinned(tmp_path)
    with pytest.raises(UserError, match=rf"has no layer {layer}; it has 3 layers, .* 0 to 2 or -3 to -1"):
        Backbone.load(tmp_path / "w", layer=layer, grid=4)


def test_a_size_the_network_does_not_take(tmp_path):
    pinned(tmp_path, TINY.model_copy(update={"size": 40}))
    with pytest.raises(UserError, match="gives no feature map for an image of 40 pixels"):
        Backbone.load(tmp_path / "w")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_checkpoints_load_strictly_in_both_formats(tmp_path, suffix):
    torch.manual_seed(1)
    source = build(TINY)
    state = {name: value.half() for name, value in source.state_dict().items()}
    path = tmp_path / f"c{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save({"state_dict": state}, path)
    network = build(TINY)
    load_checkpoint(network, path)
    for name, value in network.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, state[name].float())


def test_a_checkpoint_that_does_not_fit_lists_all_misfits(tmp_path):
    state = dict(build(TINY).state_dict())
    state["head.weight"] = torch.zeros(7, 24)
    state["extra"] = torch.zeros(1)
    del state["norm.bias"]
    save_file(state, tmp_path / "c.safetensors")
    with pytest.raises(UserError) as error:
        load_checkpoint(build(TINY), tmp_path / "c.safetensors")
    text = str(error.value)
    assert "does not fit VisionTransformer" in text
    assert "1 tensors are missing: norm.bias" in text
    assert "1 tensors are unknown to the network: extra" in text
    assert "`head.weight` should be (5, 24), found (7, 24)" in text


def test_absent_and_unreadable_checkpoints(tmp_path):
    with pytest.raises(UserError, match="does not exist here"):
        load_checkpoint(build(TINY), tmp_path / "no.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"garbage garbage")
    with pytest.raises(UserError, match="neither safetensors nor a plain torch state dict"):
        load_checkpoint(build(TINY), tmp_path / "bad.safetensors")


def test_unknown_networks_and_arguments():
    with pytest.raises(UserError, match="'vit_tyny' could not be built"):
        build(BackboneParams(timm="vit_tyny", weights="random"))
    with pytest.raises(UserError, match="could not be built with {'colour': 3}"):
        build(BackboneParams(timm="resnet18", kwargs={"colour": 3}, weights="random"))
    with pytest.raises(UserError, match="The factory 'nowhere:thing' could not be found"):
        build(BackboneParams(factory="nowhere:thing", weights="random"))


def test_a_factory_file_travels_with_its_weights(tmp_path):
    (tmp_path / "mine.py").write_text(FACTORY)
    params = BackboneParams(
        factory=f"{tmp_path}/mine.py:Plain",
        kwargs={"width": 8},
        replace={"act": "torch.nn:Identity"},
        weights="random",
        size=16,
    )
    network, identity = pinned(tmp_path, params)
    (tmp_path / "mine.py").unlink()
    loaded = Backbone.load(tmp_path / "w", layer=1, grid=2)
    assert isinstance(loaded.network.act, torch.nn.Identity)
    pixels = torch.rand(1, 3, 16, 16)
    assert torch.equal(
        loaded.tokens(pixels), Backbone(network, identity, layer=0, norm=False, grid=2).tokens(pixels)
    )


def test_a_factory_must_say_its_size_and_give_maps(tmp_path):
    (tmp_path / "mine.py").write_text(FACTORY)
    nameless = BackboneParams(factory=f"{tmp_path}/mine.py:Plain", weights="random")
    with pytest.raises(UserError, match="does not say its input size; add `size: PIXELS`"):
        pinned(tmp_path, nameless)
    pinned(tmp_path, BackboneParams(factory=f"{tmp_path}/mine.py:Blind", weights="random", size=8))
    with pytest.raises(UserError, match="has no `forward_intermediates`"):
        Backbone.load(tmp_path / "w")


def test_the_config_is_complete_json(tmp_path):
    identity = pinned(tmp_path)[1]
    raw = json.loads((tmp_path / "w" / "config.json").read_text())
    assert set(raw) == {field.name for field in dataclasses.fields(identity)} | {"crc32c"}
    assert raw["timm_version"] == timm.__version__


def test_nothing_pinned(tmp_path):
    with pytest.raises(UserError, match="run `dvc repro weights@vit`"):
        Backbone.load(tmp_path / "vit")


@pytest.mark.parametrize(
    ("damage", "found"),
    [(lambda content: content[:-5] + b"?" + content[-4:], "[0-9a-f]{28}"), (None, "none: there is no")],
)
def test_weights_that_changed_after_they_were_pinned_are_refused(tmp_path, damage, found):
    """Stores are named by the weights: chunks of others would lie among them."""
    identity = pinned(tmp_path)[1]
    file = tmp_path / "w" / "model.safetensors"
    file.write_bytes(damage(file.read_bytes())) if damage else file.unlink()
    expected = (
        f"should have the SHA-256 {identity.sha256[:12]}.*found {found}.*`dvc repro -f -s weights@w` pins it anew"
    )
    with pytest.raises(UserError, match=expected):
        Backbone.load(tmp_path / "w")


def test_a_description_that_is_not_as_it_was_written_is_refused(tmp_path):
    """Another mean or layer count is another network's pixels, and a store of its own."""
    pinned(tmp_path)
    file = tmp_path / "w" / "config.json"
    whole = file.read_text()
    damages = [whole[:40], "[]", "{}", "", whole.replace("0.5", "0.7"), whole.replace('"size": 32', '"size": 33')]
    for damage in damages:
        assert damage != whole
        file.write_text(damage)
        with pytest.raises(UserError, match=r"damaged \(config.json is not whole.*-s weights@w`") as error:
            read_identity(tmp_path / "w")
        assert len(str(error.value).splitlines()) == 1


def test_a_factory_file_that_changed_after_it_was_pinned_never_runs(tmp_path):
    (tmp_path / "mine.py").write_text(FACTORY)
    params = BackboneParams(factory=f"{tmp_path}/mine.py:Plain", weights="random", size=16)
    pinned(tmp_path, params)
    (tmp_path / "w" / "factory.py").write_text(f"open('{tmp_path}/ran', 'w')\n")
    with pytest.raises(UserError, match=r"factory.py should have the SHA-256"):
        Backbone.load(tmp_path / "w")
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_network_are_refused(tmp_path):
    _, identity = pinned(tmp_path)
    save_file({"other": torch.zeros(2)}, tmp_path / "w" / "model.safetensors")
    digest = hashlib.sha256((tmp_path / "w" / "model.safetensors").read_bytes()).hexdigest()
    write_json(tmp_path / "w" / "config.json", dataclasses.asdict(dataclasses.replace(identity, sha256=digest)))
    with pytest.raises(UserError, match="the weights are not those of the network that config.json describes"):
        Backbone.load(tmp_path / "w")


def test_networks_with_random_weights_have_a_stage_of_their_own(tmp_path):
    with pytest.raises(UserError, match="run `dvc repro untrained@vit`"):
        Backbone.load(tmp_path / "untrained" / "weights" / "vit")
    pinned(tmp_path / "untrained" / "weights")
    (tmp_path / "untrained" / "weights" / "w" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="`dvc repro -f -s untrained@w` pins it anew"):
        Backbone.load(tmp_path / "untrained" / "weights" / "w")


def test_others_may_read_what_is_pinned(tmp_path):
    pinned(tmp_path)
    assert len({path.stat().st_mode for path in (tmp_path / "w").iterdir()}) == 1


def test_tensors_that_two_modules_share_are_pinned_for_both(tmp_path):
    (tmp_path / "mine.py").write_text(FACTORY + SHARED)
    network, _ = pinned(tmp_path, BackboneParams(factory=f"{tmp_path}/mine.py:Shared", weights="random", size=16))
    loaded = Backbone.load(tmp_path / "w", layer=0, grid=2)
    assert torch.equal(loaded.network.again.weight, network.conv.weight)


@pytest.mark.parametrize("kind", ["pickle", "module", "list", "tensor", "text", "numbers"])
def test_a_checkpoint_that_is_no_state_dict_is_one_sentence_and_runs_nothing(tmp_path, kind):
    class Malicious:
        def __reduce__(self):
            return (open, (f"{tmp_path}/ran", "w"))

    contents = {
        "pickle": Malicious(),
        "module": torch.nn.Linear(2, 2),
        "list": [torch.zeros(1)],
        "tensor": torch.zeros(1),
        "numbers": {"a": 3},
    }
    file = tmp_path / "weights.pt"
    torch.save(contents[kind], file) if kind in contents else file.write_text("some text")
    with pytest.raises(UserError, match=r"neither safetensors nor a plain torch .*No code of it was run"):
        load_checkpoint(build(TINY), file)
    assert not (tmp_path / "ran").exists()


ODD = """
import torch
from torch import nn

class Maps(nn.Module):
    def __init__(self, gives):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 4, 4)
        self.gives = gives

    def forward_intermediates(self, x, indices, norm, output_fmt, intermediates_only):
        if self.gives == "KeyError":
            raise KeyError(7)
        maps = self.conv(x)
        many = {"tuple": [(maps, maps)], "nothing": None, "narrow": [maps[:, :0]]}
        return (many | {"complex": [torch.complex(maps, maps)]})[self.gives]

def built(what):
    if what == "KeyError":
        return {}["there is no such key"]
    return {"None": None, "list": [1], "function": built}[what]
"""


@pytest.mark.parametrize("what", ["None", "list", "function", "KeyError"])
def test_factories_that_give_no_network_are_named(tmp_path, what):
    (tmp_path / "odd.py").write_text(ODD)
    params = BackboneParams(factory=f"{tmp_path}/odd.py:built", kwargs={"what": what}, weights="random", size=16)
    with pytest.raises(UserError, match=r"odd.py:built' (should give a torch module, f|could not be built)"):
        build(params)


@pytest.mark.parametrize(
    ("gives", "sentence"),
    [
        ("tuple", "It says: (it gives a tuple, not a tensor|TypeCheckError)"),  # tests check types
        ("nothing", "It says: TypeError"),
        ("KeyError", "It says: KeyError: 7"),
        ("complex", "gives complex numbers, of which a store would keep the real part alone"),
        ("narrow", r"gives maps without channels, \(1, 0, 4, 4\)"),
    ],
)
def test_maps_that_no_store_can_hold_are_refused(tmp_path, gives, sentence):
    (tmp_path / "odd.py").write_text(ODD)
    params = BackboneParams(factory=f"{tmp_path}/odd.py:Maps", kwargs={"gives": gives}, weights="random", size=16)
    pinned(tmp_path, params)
    with pytest.raises(UserError, match=sentence):
        Backbone.load(tmp_path / "w", layer=0)
