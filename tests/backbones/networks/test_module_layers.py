"""Layers by a module's path, and the recipes of docs/models.md with random weights."""

import re

import pytest
import torch
import yaml
from torch import nn

from tests.support.worlds import ROOT
from usae.backbones.networks.backbone import Backbone, pin
from usae.backbones.networks.building import build
from usae.backbones.networks.feature_maps import as_map, check_layer
from usae.common.errors import UserError
from usae.common.params import ModelParams, parse_params

PAGE = (ROOT / "docs/models.md").read_text().split("## Networks of other libraries")[1].split("\n## ")[0]
ENTRIES = {
    slug: entry
    for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    for slug, entry in yaml.safe_load(text).items()
}
FILES = dict(zip(("dinov2", "clip"), re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL), strict=True))
SMALL = {
    "model_type": "dinov2",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
}


def recipe(slug, folder, **changed):
    """The page's entry of the zoo, with its file written to `folder` and other values in its backbone."""
    entry = ENTRIES[slug]
    backbone = {**entry["backbone"], **changed}
    if slug in FILES:
        (folder / "recipe.py").write_text(FILES[slug])
        backbone["factory"] = f"{folder}/recipe.py:network"
    backbone |= {key: tuple(backbone[key]) for key in ("mean", "std") if key in backbone}
    return ModelParams.model_validate({**entry, "backbone": backbone})


def read(model, folder, module, prefix, side):
    """The tokens are those that the module gives, places alone, in any batch; also of what was pinned."""
    torch.manual_seed(0)
    network = build(model.backbone).eval()
    pin(model.backbone, folder / "w", network)
    backbone = Backbone.load(folder / "w", layer=model.layer, grid=side)
    pixels = torch.rand(2, 3, backbone.size, backbone.size)
    seen = []
    handle = backbone.network.get_submodule(module).register_forward_hook(lambda *given: seen.append(given[2]))
    with torch.no_grad():
        backbone.network((pixels - backbone.mean) / backbone.std)
    handle.remove()
    output = seen[0] if isinstance(seen[0], torch.Tensor) else seen[0][0]
    expected = output.flatten(2).transpose(1, 2) if output.ndim == 4 else output[:, prefix:]
    assert expected.shape[1] == side * side
    assert torch.equal(backbone.tokens(pixels), expected)
    return backbone


def test_torchvision(tmp_path):
    model = recipe("resnet", tmp_path, kwargs={}, weights="random", size=64)
    assert model.layer == "layer4"
    backbone = read(model, tmp_path, "layer4", 0, 2)
    pixels = torch.rand(1, 3, 64, 64, requires_grad=True)
    backbone.tokens(pixels).sum().backward()
    assert pixels.grad.abs().sum() > 0


def test_transformers(tmp_path):
    pytest.importorskip("transformers", reason="transformers is not installed; docs/models.md says how")
    model = recipe("dinov2", tmp_path, kwargs=SMALL, weights="random", size=56)
    read(model, tmp_path, "layernorm", 1, 4)


def test_open_clip(tmp_path):
    pytest.importorskip("open_clip", reason="open_clip is not installed; docs/models.md says how")
    model = recipe("clip", tmp_path, kwargs={"name": "ViT-B-32"}, weights="random")
    read(model, tmp_path, "transformer.resblocks.11", 1, 7)


def test_the_page_is_valid_parameters(raw_params):
    raw_params["zoo"] |= ENTRIES
    assert parse_params(raw_params).zoo["clip"].layer == "transformer.resblocks.11"


class Tokens(nn.Module):
    """Maps, their places as tokens behind two others, and the same with the places first."""

    def __init__(self):
        super().__init__()
        self.stem, self.rows, self.turned = nn.Conv2d(3, 4, 2, 2), nn.Identity(), nn.Identity()

    def forward(self, pixels):
        maps = self.stem(pixels)
        tokens = torch.cat([maps.new_ones(len(maps), 2, 4), maps.flatten(2).transpose(1, 2)], 1)
        return self.turned(self.rows(tokens).transpose(0, 1))


def test_tokens_become_the_map_they_are_of():
    network = Tokens()
    maps = network.stem(torch.rand(3, 3, 8, 8))
    tokens = torch.cat([torch.ones(3, 2, 4), maps.flatten(2).transpose(1, 2)], 1)
    assert torch.equal(as_map(tokens), maps)
    assert torch.equal(as_map((maps, "more")), maps)


def test_names_that_do_not_help_are_answered():
    network = Tokens()
    check_layer(network, "rows", 8, "mine")
    with pytest.raises(UserError, match=r"'mine' has no module 'row'; did you mean rows\?"):
        check_layer(network, "row", 8, "mine")
    with pytest.raises(UserError, match="'mine' has no module 'layer4'; there are stem, rows"):
        check_layer(network, "layer4", 8, "mine")
    with pytest.raises(UserError, match="`layer` should be the name of a module: stem, rows"):
        check_layer(network, -1, 8, "mine")
    with pytest.raises(UserError, match="'turned' of 'mine' should give images first; it gave 18 for one"):
        check_layer(network, "turned", 8, "mine")
