import pytest
import torch
from safetensors.torch import save_file

from usae.backbones.entry import entry_of, slug_of
from usae.backbones.networks.building import build
from usae.backbones.outline import outline
from usae.backbones.shapes import bare, refuse_fine_grid
from usae.common.errors import UserError
from usae.common.params import BackboneParams, ModelParams, parse_params


def model(name="test_resnet", weights="random", layer=-1, norm=True, **kwargs):
    backbone = BackboneParams(timm=name, weights=weights, kwargs={"num_classes": 0, **kwargs})
    return ModelParams(backbone=backbone, layer=layer, norm=norm)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (model(), (160, 96, 5, 5)),
        (model(layer=1), (160, 32, 40, 40)),
        (model("test_vit", img_size=64), (64, 64, 4, 4)),
    ],
)
def test_the_map_of_a_layer_is_known_without_weights(asked, expected):
    seen = outline(asked)
    assert (seen.size, seen.width, seen.rows, seen.columns) == expected


def test_it_agrees_with_the_network_itself():
    asked = model("test_convnext")
    assert outline(asked).parameters == sum(p.numel() for p in build(asked.backbone).parameters())
    assert all(parameter.is_meta for parameter in bare(asked.backbone).parameters())


class ByValue(torch.nn.Module):
    """A network that needs values to be built."""

    def __init__(self):
        super().__init__()
        self.width = int(torch.tensor(3.0).item())

    def forward_intermediates(self, x, indices, norm, output_fmt, intermediates_only):
        return [x[:, : self.width, ::16, ::16]]


def test_a_network_that_needs_values_gets_random_ones():
    backbone = BackboneParams(factory=f"{__name__}:ByValue", weights="random", size=64)
    seen = outline(ModelParams(backbone=backbone, layer=0, norm=False))
    assert (seen.width, seen.rows, seen.columns) == (3, 4, 4)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (model("test_resnt"), "Unknown model (test_resnt). Did you mean test_resnet or"),
        (model("test_vit.r160_in2k"), "timm has the weights test_vit.r160_in1k."),
        (
            model(layer=7),
            "'test_resnet' has no layer 7; it has 5 layers, so `layer` should be 0 to 4 or -5 to -1.",
        ),
        (model(weights="nowhere.pt"), "The checkpoint 'nowhere.pt' does not exist here"),
        (model(weights="shipped:nothing"), "the demo's objectives are"),
    ],
)
def test_faults(asked, sentence):
    with pytest.raises(UserError) as error:
        outline(asked)
    assert sentence in str(error.value)


def test_weights_of_the_hub_that_timm_does_not_know():
    with pytest.raises(UserError, match="timm knows no weights for 'coatnet_nano_cc_224'"):
        outline(model("coatnet_nano_cc_224", "hub"))
    factory = BackboneParams(factory=f"{__name__}:ByValue", weights="hub", size=64)
    assert outline(ModelParams(backbone=factory, layer=0, norm=False)).width == 3


def test_a_checkpoint_is_compared_with_the_network(tmp_path):
    save_file(build(model(num_classes=7).backbone).state_dict(), tmp_path / "seven.safetensors")
    weights = str(tmp_path / "seven.safetensors")
    assert outline(model(weights=weights, num_classes=7)).width == 96
    with pytest.raises(UserError, match="2 tensors are unknown to the network: fc.bias, fc.weight"):
        outline(model(weights=weights))
    assert entry_of(f"test_resnet={weights}").model == model(weights=weights, num_classes=7)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("test_resnet=random", model()),
        ("test_resnet", model("test_resnet.r160_in1k", "hub")),
        ("vit_small_patch14_dinov2", model("vit_small_patch14_dinov2.lvd142m", "hub", img_size=224)),
    ],
)
def test_an_entry_has_tag_size_and_norm(wanted, expected):
    assert entry_of(wanted).model == expected


def test_an_entry_of_nothing():
    with pytest.raises(UserError, match="Did you mean"):
        entry_of("test_resnt")


def test_slugs_are_architectures_without_sizes():
    names = ("vit_base_patch16_siglip_224.webli", "swin_tiny_patch4_window7_224", "resnet18.a1_in1k")
    assert [slug_of(name) for name in names] == ["vit_base_siglip", "swin_tiny", "resnet18"]


def test_a_grid_far_finer_than_every_map_is_refused(raw_params):
    coarse, fine = ModelParams.model_dump(model()), ModelParams.model_dump(model(layer=1))  # 5 x 5 and 40 x 40
    raw_params |= {"models": ["coarse", "fine"], "zoo": {"coarse": coarse, "fine": fine}}
    raw_params["interventions"]["held_out"] = None
    raw_params["extract"]["grid"] = 40
    refuse_fine_grid(parse_params(raw_params), "coarse")  # eight times its own map, but not the other's
    raw_params["extract"]["grid"] = 400
    with pytest.raises(UserError, match=r"is 400, more than 4 times .* 40 x 40 \(`fine`\).* set it to 40 or less"):
        refuse_fine_grid(parse_params(raw_params), "coarse")
