import dataclasses

import numpy as np
import pytest
import torch

from usae.backbones import Backbone, build, pin
from usae.errors import UserError
from usae.extraction import extract, merged_moments, scalar_statistics
from usae.images import load_splits
from usae.params import BackboneParams, ImagesParams
from usae.sources import write_images

CPU = torch.device("cpu")
TINY = BackboneParams(
    timm="vit_tiny_patch16_224",
    kwargs={"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 0},
    weights="random",
)


@pytest.fixture
def setting(params, image_folder, tmp_path, monkeypatch):
    monkeypatch.delenv("USAE_STORE", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    images = ImagesParams(source="folder", path=str(image_folder), train=None, val=None, val_share=0.3)
    write_images(tmp_path / "images", images, seed=0, workers=1)
    torch.manual_seed(0)
    pin(TINY, tmp_path / "w", build(TINY))
    settings = params.extract.model_copy(update={"grid": 4, "chunk_images": 3, "statistics_images": None})
    runtime = params.runtime.model_copy(update={"store": str(tmp_path / "activations"), "workers": 2})
    return load_splits(tmp_path / "images", str(image_folder)), settings, runtime


def backbone(tmp_path, layer=-1, grid=4):
    return Backbone.load(tmp_path / "w", layer=layer, grid=grid)


def test_the_store_holds_the_backbones_tokens(setting, tmp_path):
    images, settings, runtime = setting
    manifest = extract("m", backbone(tmp_path), images, settings, runtime, CPU)
    store = manifest.open("train", tmp_path / "activations")
    assert (store.images, store.tokens, store.width) == (len(images["train"]), 16, 24)
    net = backbone(tmp_path)
    for image in (0, len(images["train"]) - 1):
        pixels = np.asarray(images["train"].open(image).resize((32, 32), 3)).transpose(2, 0, 1)
        with torch.inference_mode():
            expected = net.tokens(torch.from_numpy(pixels.copy()).float()[None] / 255)[0]
        found = store.chunk(image // 3)[image % 3].astype(np.float32)
        np.testing.assert_allclose(found, expected, atol=2e-3, rtol=2e-3)


def test_statistics_are_those_of_the_stored_values(setting, tmp_path):
    images, settings, runtime = setting
    manifest = extract("m", backbone(tmp_path), images, settings, runtime, CPU)
    store = manifest.open("train", tmp_path / "activations")
    rows = np.concatenate([store.chunk(j) for j in range(store.chunks)]).astype(np.float64)
    np.testing.assert_allclose([manifest.mean, manifest.std], [rows.mean(), rows.std(ddof=1)], rtol=1e-10)
    np.testing.assert_allclose(manifest.channel_mean, rows.mean((0, 1)), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(manifest.channel_std, rows.std((0, 1)), rtol=1e-10)


@pytest.mark.parametrize("count", [1, 3, 4, 7])
def test_scalar_statistics_of_the_first_images(make_store, count):
    activations = np.random.default_rng(0).normal(3, 2, (8, 2, 5)).astype("float16")
    store = make_store("s", activations, chunk_images=3)
    mean, std, used = scalar_statistics(store, count)
    first = activations[:count].astype(np.float64)
    np.testing.assert_allclose([mean, std], [first.mean(), first.std(ddof=1)], rtol=1e-12)
    assert used == count
    assert merged_moments(store).count == 16


def test_a_rerun_computes_nothing_and_gives_the_same_manifest(setting, tmp_path):
    images, settings, runtime = setting
    first = extract("m", backbone(tmp_path), images, settings, runtime, CPU)
    files = sorted((tmp_path / "activations").rglob("0"))
    stamps = [file.stat().st_mtime_ns for file in files]
    assert extract("m", backbone(tmp_path), images, settings, runtime, CPU) == first
    assert [file.stat().st_mtime_ns for file in files] == stamps


def test_an_interrupted_run_goes_on_to_the_same_bytes(setting, tmp_path):
    images, settings, runtime = setting
    whole = extract("m", backbone(tmp_path), images, settings, runtime, CPU)
    store = whole.open("train", tmp_path / "activations")
    before = store.chunk_path(1).read_bytes()
    store.chunk_path(1).unlink()
    assert extract("m", backbone(tmp_path), images, settings, runtime, CPU) == whole
    assert store.chunk_path(1).read_bytes() == before


def test_another_layer_has_a_store_of_its_own_and_the_old_one_is_found_again(setting, tmp_path):
    images, settings, runtime = setting
    last = extract("m", backbone(tmp_path), images, settings, runtime, CPU)
    first = extract("m", backbone(tmp_path, layer=0), images, settings, runtime, CPU)
    assert first.train.store != last.train.store
    assert extract("m", backbone(tmp_path), images, settings, runtime, CPU) == last


def test_the_grid_is_common(setting, tmp_path):
    images, settings, runtime = setting
    smaller = settings.model_copy(update={"grid": 2})
    manifest = extract("m", backbone(tmp_path, grid=2), images, smaller, runtime, CPU)
    assert manifest.open("val", tmp_path / "activations").tokens == 4


@pytest.mark.parametrize("value", [1e6, float("nan"), float("inf")])
def test_values_that_half_precision_cannot_hold_are_named(setting, tmp_path, value):
    images, settings, runtime = setting
    network = backbone(tmp_path)
    with torch.no_grad():
        network.network.norm.bias.fill_(value)
    with pytest.raises(UserError, match="'m' gives activations up to .* in chunk 0, which float16 cannot hold"):
        extract("m", network, images, settings, runtime, CPU)


def test_float32_stores_hold_what_half_precision_cannot(setting, tmp_path):
    images, settings, runtime = setting
    network = backbone(tmp_path)
    with torch.no_grad():
        network.network.norm.bias.fill_(1e6)
    manifest = extract("m", network, images, settings.model_copy(update={"dtype": "float32"}), runtime, CPU)
    assert manifest.mean == pytest.approx(1e6, rel=1e-3)
    assert dataclasses.asdict(manifest)["dtype"] == "float32"
