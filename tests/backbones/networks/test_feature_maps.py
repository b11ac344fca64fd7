"""Networks without `forward_intermediates`: older timm versions, `features_only: true`, modules of one's own."""

import pytest
import torch

from usae.backbones.networks.backbone import Backbone, pin
from usae.backbones.networks.building import build
from usae.backbones.networks.feature_maps import check_layer, feature_map, feature_maps, to_grid
from usae.backbones.networks.timm_import import timm
from usae.backbones.weights.checkpoints import load_state
from usae.common.errors import UserError
from usae.common.params import BackboneParams

CODE = '''
import torch
from torch import nn
from usae.backbones.networks.timm_import import timm

class Plain(nn.Module):
    """A timm network as it was before it could be asked for its layers: it names them, no more."""
    def __init__(self, name, **kwargs):
        super().__init__()
        network = timm.create_model(name, **kwargs)
        self.features, self.feature_info = network.features, network.feature_info

    def forward_features(self, x):
        return self.features(x)

class Twofold(nn.Module):
    """What enters a module; two maps that belong together; two of which the first counts; one never reached."""
    def __init__(self):
        super().__init__()
        self.stem, self.twice, self.aside = nn.Conv2d(3, 4, 2, 2), Double(), nn.Identity()
        self.feature_info = [
            {"module": "twice", "hook_type": "forward_pre", "num_chs": 4},
            {"module": "twice", "num_chs": 8},
            {"module": "twice", "num_chs": 4},
            {"module": "aside", "num_chs": 4},
        ]

    def forward(self, x):
        return self.twice(self.stem(x))

class Double(nn.Module):
    def forward(self, x):
        return x, -x

class Flat(nn.Module):
    def forward_intermediates(self, x, indices, norm, output_fmt, intermediates_only):
        return [x.flatten(2)]
'''
NETWORKS = {
    "vgg11": {"mlp_ratio": 0.01},
    "densenet121": {"growth_rate": 8, "block_config": [2, 2, 2, 2]},
}


@pytest.fixture
def factory(tmp_path):
    """Parameters of a network in CODE."""
    (tmp_path / "plain.py").write_text(CODE)

    def make(attribute: str, /, **kwargs) -> BackboneParams:
        return BackboneParams(factory=f"{tmp_path}/plain.py:{attribute}", kwargs=kwargs, weights="random", size=64)

    return make


def pixels(size: int = 64) -> torch.Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NETWORKS)
def test_hooks_read_what_forward_intermediates_would(factory, tmp_path, name):
    params = factory("Plain", name=name, **NETWORKS[name])
    torch.manual_seed(0)
    network = build(params).eval()
    assert not hasattr(network, "forward_intermediates")
    pin(params, tmp_path / "w", network)
    timms = timm.create_model(name, **NETWORKS[name]).eval()
    timms.load_state_dict(network.state_dict(), strict=False)
    wanted = timms.forward_intermediates(pixels(), intermediates_only=True)
    loaded = Backbone.load(tmp_path / "w", grid=4)
    for layer, expected in enumerate(wanted):
        for number in (layer, layer - len(wanted)):
            backbone = Backbone(loaded.network, loaded.identity, layer=number, norm=True, grid=4)
            backbone.mean, backbone.std = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
            assert torch.equal(backbone.tokens(pixels()), to_grid(expected, 4))
    with pytest.raises(UserError, match=rf"has no layer {len(wanted)}; it has {len(wanted)} layers"):
        Backbone.load(tmp_path / "w", layer=len(wanted))


def test_hooks_leave_no_trace_and_let_gradients_through(factory):
    network = build(factory("Plain", name="vgg11", **NETWORKS["vgg11"])).eval()
    names, whole = set(network.state_dict()), network.forward_features(pixels())
    images = pixels().requires_grad_()
    feature_map(network, images, 0, norm=False).sum().backward()
    assert images.grad.abs().sum() > 0
    assert set(network.state_dict()) == names
    assert torch.equal(network.forward_features(pixels()), whole)
    assert not any(module._forward_hooks for module in network.modules())


def test_what_enters_a_module_and_several_outputs(factory):
    network = build(factory("Twofold")).eval()
    stem = network.stem(pixels())
    for layer, expected in enumerate([stem, torch.cat([stem, -stem], 1), stem]):
        assert torch.equal(feature_map(network, pixels(), layer, norm=True), expected)


@torch.inference_mode()
@pytest.mark.parametrize("layers", [[2, 0, 1], [1, 0, 1]])
def test_hooked_layers_in_one_pass(factory, layers):
    network = build(factory("Twofold")).eval()
    joint = feature_maps(network, pixels(), layers, norm=True)
    for layer, maps in zip(layers, joint, strict=True):
        assert torch.equal(maps, feature_map(network, pixels(), layer, norm=True))


@torch.inference_mode()
def test_modules_in_one_pass_are_read_before_the_next_one_writes_over_them():
    torch.manual_seed(0)
    network = build(BackboneParams(timm="resnet18", weights="random", size=64)).eval()
    assert network.act1.inplace  # what leaves bn1 is written over there
    paths = ["layer2", "bn1", "act1", "bn1"]
    for path, maps in zip(paths, feature_maps(network, pixels(), paths, norm=False), strict=True):
        assert torch.equal(maps, feature_map(network, pixels(), path, norm=False))


@pytest.mark.parametrize("name", ["resnet18", "hrnet_w18_small"])
@torch.inference_mode()
def test_lists_of_maps_in_one_pass(name):
    torch.manual_seed(0)
    network = build(BackboneParams(timm=name, kwargs={"features_only": True}, weights="random", size=64)).eval()
    layers = [-1, 0, 1]
    for layer, maps in zip(layers, feature_maps(network, pixels(), layers, norm=False), strict=True):
        assert torch.equal(maps, feature_map(network, pixels(), layer, norm=False))


def test_a_module_that_the_forward_pass_never_reaches(factory):
    network = build(factory("Twofold"))
    with pytest.raises(UserError, match="never reaches the module 'aside'"):
        check_layer(network, -1, 64, "twofold")


@pytest.mark.parametrize("name", ["vgg11", "densenet121", "hrnet_w18_small"])
def test_networks_built_as_lists_of_maps(tmp_path, name):
    kwargs = {**NETWORKS.get(name, {}), "features_only": True}
    params = BackboneParams(timm=name, kwargs=kwargs, weights="random", size=64)
    torch.manual_seed(0)
    network = build(params).eval()
    assert hasattr(network, "forward_intermediates") is name.startswith("hrnet")
    identity = pin(params, tmp_path / "w", network)
    load_state(build(params), network.state_dict(), "the same network")
    last = len(network(pixels())) - 1
    for layer in (0, last, -1):
        backbone = Backbone.load(tmp_path / "w", layer=layer, grid=2)
        maps = network((pixels() - backbone.mean) / backbone.std)[layer]
        assert torch.equal(backbone.tokens(pixels()), to_grid(maps, 2))
    with pytest.raises(UserError, match=rf"has no layer {last + 1}; it has {last + 1} layers"):
        Backbone.load(tmp_path / "w", layer=last + 1)
    assert identity.mean == (0.485, 0.456, 0.406)


def test_a_network_that_cannot_be_asked_is_told_what_to_offer():
    with pytest.raises(
        UserError,
        match="`feature_info` that names its modules.*features_only: true.*should be the name of a module: none",
    ):
        check_layer(torch.nn.Conv2d(3, 4, 2), 0, 8, "conv")


def test_a_layer_without_places(factory):
    with pytest.raises(
        UserError, match=r"should give maps .images, width, rows, columns.; found the shape \(1, 3, 16\)"
    ):
        check_layer(build(factory("Flat")), 0, 4, "flat")


def test_the_networks_own_words_when_the_size_is_wrong():
    network = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1)
    with pytest.raises(UserError, match=r"gives no feature map for an image of 40 pixels.*It says: .*40"):
        check_layer(network, -1, 40, "vit")


def test_a_network_that_offers_no_norm():
    network = timm.create_model("hiera_tiny_224", embed_dim=16, num_heads=1, stages=(1, 1, 1, 1))
    check_layer(network, -1, 224, "hiera")
    with pytest.raises(
        UserError, match=r"'hiera' cannot send its layers through a norm .*set `norm: false` for it"
    ):
        check_layer(network, -1, 224, "hiera", norm=True)
