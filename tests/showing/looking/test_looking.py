"""Pictures of one's own: the codes are those of network, geometry and SAE one after another."""

import numpy as np
import pytest
import torch
from PIL import Image

import usae
from tests.support.html_page import Page
from tests.support.synthetic_run import synthetic_run
from usae.backbones.networks.backbone import Backbone
from usae.backbones.weights.obtaining import obtain
from usae.common.errors import UserError
from usae.common.files.json_files import read_json
from usae.common.params import BackboneParams
from usae.images.pixels.geometry import fit_image
from usae.sae.universal import UniversalSAE
from usae.showing.commands.look import main
from usae.showing.looking.firing import strongest

CONCEPTS, K, GRID, SEED = 24, 4, 4, 5
NETWORKS = {
    "one": BackboneParams(timm="test_resnet", weights="random", size=64),
    "two": BackboneParams(timm="test_vit", weights="random", kwargs={"img_size": 32}),
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """An SAE of two networks with random weights, which are pinned where stage `weights` pins them."""
    root = tmp_path_factory.mktemp("checkout")
    torch.manual_seed(0)
    models, widths = {}, {}
    for slug, params in NETWORKS.items():
        obtain(params, root / "data/weights" / slug, SEED)
        backbone = Backbone.load(root / "data/weights" / slug, grid=GRID)
        widths[slug] = backbone.tokens(torch.zeros(1, 3, backbone.size, backbone.size)).shape[-1]
        identity = read_json(root / "data/weights" / slug / "config.json")
        models[slug] = {"backbone": identity, "layer": -1, "norm": True, "grid": GRID, "fit": "squash"}
    sae = UniversalSAE(widths, CONCEPTS, K, {"models": models, "seed": SEED}).eval()
    sae.save_pretrained(root / "data/usae")
    return root


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    pixels = np.random.default_rng(1).integers(0, 255, (3, 40, 50, 3), dtype=np.uint8)
    for number, each in enumerate(pixels):
        Image.fromarray(each).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("slug", NETWORKS)
def test_codes_are_those_of_network_and_sae(checkout, pictures, slug):
    sae = UniversalSAE.from_pretrained(checkout / "data/usae")
    backbone = Backbone.load(checkout / "data/weights" / slug, grid=GRID)
    opened = [Image.open(path) for path in pictures]
    squares = [fit_image(each, backbone.size, "squash", backbone.identity.interpolation) for each in opened]
    with torch.inference_mode():
        expected = sae.encode({slug: backbone.tokens(torch.tensor(np.stack(squares)) / 255)})[slug]
    for given in (pictures, opened):
        codes = usae.encode_images(slug, given, sae=checkout / "data/usae")
        assert codes.shape == (3, GRID * GRID, K)
        assert torch.equal(codes.dense(CONCEPTS), expected.dense(CONCEPTS))


def test_a_heatmap_is_the_codes_of_a_concept_on_the_grid(checkout, pictures):
    codes = usae.encode_images("one", pictures[:1], sae=checkout / "data/usae")[0]
    (concept,) = codes.top(1)
    heat = usae.heatmap(pictures[0], concept, "one", sae=checkout / "data/usae")
    assert np.array_equal(heat.codes.ravel(), codes.dense(CONCEPTS)[:, concept].numpy())
    assert heat.overlay().size == (448, 448)
    with pytest.raises(UserError, match="There is no concept 24; they are 0 to 23"):
        usae.heatmap(pictures[0], 24, "one", sae=checkout / "data/usae")


def exported(checkout, folder, **identity):
    """The SAE alone, with other values in what it says of its first network."""
    sae = UniversalSAE.from_pretrained(checkout / "data/usae")
    sae.config["models"]["one"]["backbone"] |= identity
    sae.save_pretrained(folder)
    return folder


def test_an_sae_alone_builds_its_network_again(checkout, pictures, tmp_path):
    alone = exported(checkout, tmp_path / "alone")
    wanted = usae.encode_images("one", pictures, sae=checkout / "data/usae")
    assert torch.equal(usae.encode_images("one", pictures, sae=alone).values, wanted.values)


def test_networks_that_travel_with_the_sae_come_first(checkout, pictures, tmp_path):
    alone = exported(checkout, tmp_path / "alone", weights="/nowhere/checkpoint.pt")
    (alone / "networks").mkdir()
    (alone / "networks/one").symlink_to(checkout / "data/weights/one")
    wanted = usae.encode_images("one", pictures, sae=checkout / "data/usae")
    assert torch.equal(usae.encode_images("one", pictures, sae=alone).values, wanted.values)


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        ({"weights": "/nowhere/checkpoint.pt"}, "neither in .*, nor to be had anew: The checkpoint"),
        ({"weights": "pretrain:supervised"}, "was trained by its run and is neither in"),
        ({"sha256": "0" * 64}, "can be built, but with other weights .*Copy the run's `data/weights/one`"),
    ],
)
def test_what_is_missing_of_a_network_is_said(checkout, pictures, tmp_path, identity, words):
    with pytest.raises(UserError, match=words):
        usae.encode_images("one", pictures, sae=exported(checkout, tmp_path / "alone", **identity))


def test_errors_say_what_to_do(checkout, tmp_path):
    sae = checkout / "data/usae"
    with pytest.raises(UserError, match=r"it knows no 'tow'. Did you mean 'two'\?"):
        usae.encode_images("tow", [], sae=sae)
    with pytest.raises(UserError, match="There are no pictures to encode"):
        usae.encode_images("one", [], sae=sae)
    with pytest.raises(UserError, match="'absent.png' cannot be read as a picture: No such file"):
        usae.encode_images("one", ["absent.png"], sae=sae)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError, match="text.png' cannot be read as a picture: no known image format"):
        usae.encode_images("one", [tmp_path / "text.png"], sae=sae)
    UniversalSAE({"a": 4}, 8, 2).save_pretrained(tmp_path / "plain")
    with pytest.raises(UserError, match="names no network for 'a': it was fitted on plain activations"):
        usae.encode_images("a", [], sae=tmp_path / "plain")


def test_the_strongest_concepts_of_any_model_as_every_model_sees_them(checkout, pictures):
    codes = {slug: usae.encode_images(slug, pictures, sae=checkout / "data/usae")[0] for slug in NETWORKS}
    found = strongest(codes, GRID, 2)
    assert set(found) == {concept for own in codes.values() for concept in own.top(2)}
    for concept, seen in found.items():
        for slug, each in seen.items():
            own = codes[slug].dense(CONCEPTS)[:, concept].numpy()
            order = list(codes[slug].top(CONCEPTS))
            assert np.array_equal(each.codes.ravel(), own)
            assert (each.mean, each.places) == (pytest.approx(own.mean()), (own > 0).sum())
            assert each.rank == (order.index(concept) + 1 if own.any() else None)


def test_the_page_of_an_sae_without_a_run(checkout, pictures, tmp_path, capsys):
    page = tmp_path / "look.html"
    arguments = [
        *map(str, pictures[:2]),
        "--sae",
        str(checkout / "data/usae"),
        "--top",
        "1",
        "--output",
        str(page),
    ]
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"{page}\n"
    text = page.read_text()
    Page(text)
    assert text.count('<section id="picture-') == 2
    assert "no labels and no example images" in text
    assert "http" not in text.replace("http-equiv", "")
    assert main(["absent.png", "--sae", str(checkout / "data/usae")]) == 1
    assert "'absent.png' cannot be read" in capsys.readouterr().err


def test_the_page_beside_a_report(checkout, pictures, tmp_path, capsys):
    run = synthetic_run(tmp_path / "run")
    (run.root / "reports/index.html").touch()
    sae = UniversalSAE.from_pretrained(checkout / "data/usae")
    sae.save_pretrained(run.root / "data/usae")
    page = tmp_path / "look.html"
    assert main([str(pictures[0]), "--run", str(run.root), "--models", "one", "--output", str(page)]) == 0
    capsys.readouterr()
    text = page.read_text()
    concept = next(iter(usae.encode_images("one", pictures[:1], sae=checkout / "data/usae")[0].top(1)))
    assert f'<a href="run/reports/index.html#concept={concept}">' in text
    assert run.reports["concepts"]["top_label"][concept] in text
    assert "held-out image 1 of concept" in text


def test_a_run_that_is_not_finished_gives_a_page_without_labels(checkout, pictures, tmp_path, capsys):
    page = tmp_path / "look.html"
    assert main([str(pictures[0]), "--run", str(checkout), "--output", str(page)]) == 0
    assert "No labels and no example images: There is no finished run" in capsys.readouterr().err
    assert main([str(pictures[0]), "--run", str(tmp_path), "--output", str(page)]) == 1
    assert "There is no SAE in" in capsys.readouterr().err
