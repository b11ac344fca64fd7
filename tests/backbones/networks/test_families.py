"""One contract over the families of timm, with random weights: what `Backbone` promises, each of them keeps."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from usae.backbones.networks.backbone import Backbone, pin
from usae.backbones.networks.building import build
from usae.backbones.networks.feature_maps import check_layer, to_grid
from usae.common.errors import UserError
from usae.common.params import BackboneParams

SMALL = {"depth": 3, "embed_dim": 48, "num_heads": 3}
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)


@dataclass(frozen=True)
class Family:
    """A small member of a family, and what is known of it."""

    name: str
    layers: int
    side: int  # rows and columns of the last layer's map
    kwargs: dict = field(default_factory=dict)
    size: int = 64
    prefix: int = 0  # class, distillation and register tokens
    normed: bool = False  # there is a final norm, and it is not part of the last layer
    ends: bool = True  # forward_features ends at the last layer
    local: int = 0  # a layer whose tokens depend most on their own place

    @property
    def params(self) -> BackboneParams:
        return BackboneParams(
            timm=self.name,
            kwargs={"num_classes": 0, **self.kwargs},
            weights="random",
            size=None if "img_size" in self.kwargs else self.size,
        )


def vit(name: str, prefix: int, patch: int = 16, normed: bool = True) -> Family:
    kwargs = {"img_size": 4 * patch, **SMALL}
    return Family(name, 3, 4, kwargs, 4 * patch, prefix=prefix, normed=normed)


FAMILIES = {
    "ViT": vit("vit_tiny_patch16_224", 1),
    "DeiT": vit("deit_tiny_patch16_224", 1),
    "DeiT distilled": vit("deit_tiny_distilled_patch16_224", 2),
    "BEiT": vit("beit_base_patch16_224", 1, normed=False),
    "DINOv2": vit("vit_small_patch14_dinov2", 1, 14),
    "DINOv2 with registers": vit("vit_small_patch14_reg4_dinov2", 5, 14),
    "SigLIP": vit("vit_base_patch16_siglip_224", 0),
    "CLIP ViT": vit("vit_base_patch16_clip_224", 1),
    "EVA02": vit("eva02_tiny_patch14_224", 1, 14, normed=False),
    "ConvNeXt": Family("convnext_atto", 4, 2, {"depths": (1, 1, 2, 1)}),
    "Swin": Family(
        "swin_tiny_patch4_window7_224",
        4,
        2,
        {"img_size": 64, "embed_dim": 24, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 4, 8)},
        normed=True,
    ),
    "ResNet": Family("resnet18", 5, 2, local=1),
    "EfficientNet": Family("efficientnet_b0", 5, 2, ends=False, local=1),
    "MobileNetV3": Family("mobilenetv3_small_050", 5, 2, ends=False, local=1),
    "RegNet": Family("regnetx_002", 5, 2, local=1),
    "VGG": Family("vgg11", 6, 2, {"mlp_ratio": 0.01}, local=1),
    "DenseNet": Family("densenet121", 5, 2, {"growth_rate": 8, "block_config": (2, 2, 2, 2)}, local=1),
    "HRNet": Family("hrnet_w18_small", 5, 2, ends=False),
}


@dataclass(frozen=True)
class Member:
    """A family's member with random weights: as built, and as pinned and read again."""

    known: Family
    network: torch.nn.Module
    loaded: Backbone
    folder: Path

    def backbone(self, layer: int = -1, grid: int = 4, norm: bool = True) -> Backbone:
        return Backbone(self.loaded.network, self.loaded.identity, layer=layer, norm=norm, grid=grid)

    def images(self) -> torch.Tensor:
        return torch.rand(2, 3, self.loaded.size, self.loaded.size, generator=torch.Generator().manual_seed(0))

    def normalised(self) -> torch.Tensor:
        return (self.images() - self.loaded.mean) / self.loaded.std


@pytest.fixture(scope="module", params=FAMILIES)
def member(request, tmp_path_factory):
    known, folder = FAMILIES[request.param], tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    network = build(known.params).eval()
    pin(known.params, folder, network)
    return Member(known, network, Backbone.load(folder, grid=known.side), folder)


def test_tokens_of_the_last_layer_are_those_of_forward_features(member):
    known, tokens = member.known, member.loaded.tokens(member.images())
    assert tokens.shape[:2] == (2, known.side**2)
    assert tokens.isfinite().all()
    if not known.ends:
        return
    with torch.no_grad():
        features = member.network.forward_features(member.normalised())
    if features.ndim == 3:
        assert getattr(member.network, "num_prefix_tokens", 0) == known.prefix
        expected = features[:, known.prefix :]
    else:
        maps = features.permute(0, 3, 1, 2) if known.name.startswith("swin") else features
        expected = to_grid(maps, known.side)
    torch.testing.assert_close(tokens, expected, rtol=1e-5, atol=1e-5)


def test_every_layer_has_two_numbers_and_stopping_early_changes_nothing(member):
    with torch.no_grad():
        maps = member.network.forward_intermediates(
            member.normalised(), norm=True, output_fmt="NCHW", intermediates_only=True
        )
    assert len(maps) == member.known.layers
    for layer, expected in enumerate(maps):
        tokens = member.backbone(layer).tokens(member.images())
        assert torch.equal(tokens, member.backbone(layer - len(maps)).tokens(member.images()))
        torch.testing.assert_close(tokens, to_grid(expected, 4), rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_several_layers_in_one_pass_are_those_of_a_pass_each(member):
    count, backbone = member.known.layers, member.backbone()
    for layers in ([-1, 0], [1, -1, 0, 1], [0, count - 1, 1], [-1, -count]):
        joint = backbone.joint_maps(member.images(), layers)
        for layer, maps in zip(layers, joint, strict=True):
            assert torch.equal(maps, member.backbone(layer).maps(member.images()))


def test_a_layer_beyond_the_last_is_refused_with_the_count(member):
    count, name = member.known.layers, member.known.name
    for layer in (count, -count - 1):
        with pytest.raises(UserError) as error:
            check_layer(member.network, layer, member.loaded.size, name)
        assert str(error.value) == (
            f"'{name}' has no layer {layer}; it has {count} layers, so `layer` should be 0 to {count - 1} "
            f"or -{count} to -1."
        )


def test_the_norm_is_a_choice_where_there_is_one(member):
    normed, plain = (member.backbone(norm=norm).tokens(member.images()) for norm in (True, False))
    assert torch.equal(normed, plain) is not member.known.normed


@pytest.mark.parametrize(("corner", "token"), [((0, 3), 3), ((3, 0), 12)], ids=["top right", "bottom left"])
def test_tokens_run_row_by_row(member, corner, token):
    backbone, images = member.backbone(member.known.local), member.images()
    cell = member.loaded.size // 4
    row, column = (slice(place * cell, (place + 1) * cell) for place in corner)
    changed = images.clone()
    changed[:, :, row, column] = 1 - images[:, :, row, column]
    change = (backbone.tokens(changed) - backbone.tokens(images)).norm(dim=-1)  # (images, tokens)
    assert change.argmax(1).tolist() == [token, token]


def test_the_common_grid_is_an_antialiased_resampling(member):
    side = member.known.side
    native = member.backbone(grid=side).tokens(member.images())  # (images, side * side, width)
    maps = native.transpose(1, 2).unflatten(2, (side, side))
    expected = torch.nn.functional.interpolate(maps, (3, 3), mode="bilinear", antialias=True)
    found = member.backbone(grid=3).tokens(member.images())
    torch.testing.assert_close(found, expected.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-5)


def test_a_grid_of_one_is_the_mean_over_places(member):
    native = member.backbone(grid=member.known.side).tokens(member.images())
    found = member.backbone(grid=1).tokens(member.images())
    torch.testing.assert_close(found, native.mean(1, keepdim=True), rtol=1e-4, atol=1e-5)


def test_pixels_are_prepared_as_the_network_was_trained(member):
    identity, config = member.loaded.identity, member.network.pretrained_cfg
    assert identity.mean == tuple(config["mean"])
    assert identity.std == tuple(config["std"])
    assert identity.interpolation == config["interpolation"]
    assert identity.size == member.loaded.size == member.known.size
    if "clip" in member.known.name:
        assert identity.mean == CLIP_MEAN


def test_reading_leaves_the_weights_as_they_were_pinned(member):
    member.loaded.tokens(member.images())
    for name, value in load_file(member.folder / "model.safetensors").items():
        assert torch.equal(member.loaded.network.state_dict()[name], value), name
