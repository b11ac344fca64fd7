import dataclasses
import logging
import re

import numpy as np
import pytest
import torch

from usae.activations.commands.verification import StoreTarget, verify
from usae.activations.extraction.extract import create_store, extract
from usae.activations.extraction.extractor import Extraction, Extractor
from usae.activations.extraction.filling import follow
from usae.activations.extraction.joint import Pass
from usae.activations.extraction.work import announce
from usae.backbones.networks.backbone import Backbone, pin
from usae.backbones.networks.building import build
from usae.common.errors import UserError
from usae.common.params import BackboneParams, ImagesParams
from usae.images.pixels.geometry import fit_image
from usae.images.pixels.index import load_splits
from usae.images.sources.writing import write_images

TINY = BackboneParams(
    timm="vit_tiny_patch16_224",
    kwargs={"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 0},
    weights="random",
)


@pytest.fixture
def extraction(params, image_folder, tmp_path, monkeypatch):
    """A tiny random transformer over the folder's pictures, four images a chunk."""
    monkeypatch.delenv("USAE_STORE", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    images = ImagesParams(source="folder", path=str(image_folder), train=None, val=None, val_share=0.3)
    write_images(tmp_path / "images", images, seed=0, workers=1)
    settings = {"grid": 4, "chunk_images": 4, "statistics_images": None}
    return Extraction(
        model="m",
        weights=pinned(tmp_path / "w"),
        layer=-1,
        norm=True,
        images=tmp_path / "images",
        root=str(image_folder),
        params=params.extract.model_copy(update=settings),
        runtime=params.runtime.model_copy(update={"store": str(tmp_path / "activations"), "workers": 2}),
    )


def pinned(folder, change=lambda network: None):
    """The tiny network's weights in `folder`, after `change`."""
    torch.manual_seed(0)
    network = build(TINY)
    with torch.no_grad():
        change(network)
    pin(TINY, folder, network)
    return folder


def having(extraction, **extract):
    """`extraction` with other settings of the section `extract`."""
    return dataclasses.replace(extraction, params=extraction.params.model_copy(update=extract))


def running(extraction, **runtime):
    """`extraction` with other settings of the section `runtime`."""
    return dataclasses.replace(extraction, runtime=extraction.runtime.model_copy(update=runtime))


def contents(store):
    """Every file of a store."""
    return {
        str(file.relative_to(store.path)): file.read_bytes() for file in store.path.rglob("*") if file.is_file()
    }


def train_store(extraction, manifest):
    return manifest.open("train", store_folder(extraction))


def store_folder(extraction):
    return extraction.images.parent / "activations"


def test_the_store_holds_the_backbones_tokens(extraction):
    store = train_store(extraction, extract(extraction))
    images = load_splits(extraction.images, extraction.root)["train"]
    assert (store.images, store.tokens, store.width) == (len(images), 16, 24)
    net = Backbone.load(extraction.weights, layer=-1, grid=4)
    for image in (0, len(images) - 1):
        pixels = np.asarray(images.open(image).resize((32, 32), 3)).transpose(2, 0, 1)
        with torch.inference_mode():
            expected = net.tokens(torch.from_numpy(pixels.copy()).float()[None] / 255)[0]
        found = store.chunk(image // 4)[image % 4].astype(np.float32)
        np.testing.assert_allclose(found, expected, atol=2e-3, rtol=2e-3)


def test_a_grid_of_one_stores_the_mean_over_all_places(extraction):
    pooled = train_store(extraction, extract(having(extraction, grid=1, dtype="float32")))
    places = train_store(extraction, extract(having(extraction, dtype="float32")))
    assert pooled.attributes["config"]["pooled"] == "mean"
    assert "pooled" not in places.attributes["config"]
    np.testing.assert_allclose(pooled.chunk(0), places.chunk(0).mean(axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize(("name", "size"), [("resnet18", {}), ("vgg11", {"mlp_ratio": 0.01})])
def test_networks_that_only_list_their_maps_are_extracted_too(extraction, tmp_path, name, size):
    """`features_only` networks have no `forward_intermediates`."""
    torch.manual_seed(0)
    listed = BackboneParams(timm=name, kwargs={**size, "features_only": True}, weights="random", size=32)
    pin(listed, tmp_path / "listed", build(listed))
    last = dataclasses.replace(extraction, weights=tmp_path / "listed", layer=-2)
    store = train_store(extraction, extract(last))
    images, net = (
        load_splits(extraction.images, extraction.root)["train"],
        Backbone.load(last.weights, layer=-2, grid=4),
    )
    pixels = fit_image(images.open(0), 32, "squash", net.identity.interpolation)
    with torch.inference_mode():
        expected = net.tokens(torch.from_numpy(pixels.copy()).float()[None] / 255)[0]
    np.testing.assert_allclose(store.chunk(0)[0].astype(np.float32), expected, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_batches_of_any_size_fill_the_same_chunks(extraction, batch):
    whole = train_store(extraction, extract(running(extraction, batch_images=3)))
    elsewhere = extraction.images / "elsewhere"
    parts = extract(running(extraction, batch_images=batch, store=str(elsewhere))).open("train", elsewhere)
    for chunk in range(whole.chunks):
        np.testing.assert_allclose(whole.chunk(chunk), parts.chunk(chunk), atol=2e-3)


def test_statistics_are_those_of_the_stored_values(extraction):
    manifest = extract(extraction)
    store = train_store(extraction, manifest)
    rows = np.concatenate([store.chunk(j) for j in range(store.chunks)]).astype(np.float64)
    np.testing.assert_allclose([manifest.mean, manifest.std], [rows.mean(), rows.std(ddof=1)], rtol=1e-10)
    np.testing.assert_allclose(manifest.channel_mean, rows.mean((0, 1)), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(manifest.channel_std, rows.std((0, 1)), rtol=1e-10)


@pytest.mark.parametrize("count", [3, 4, 7, None])
def test_statistics_before_resampling_are_those_of_the_layers_own_tokens(extraction, count):
    manifest = extract(having(extraction, grid=2, statistics="before", statistics_images=count))
    own = extract(having(extraction, dtype="float32")).open("train", store_folder(extraction))
    rows = np.concatenate([own.chunk(j) for j in range(own.chunks)]).astype(np.float64)  # (images, 16, width)
    first = rows[:count]
    np.testing.assert_allclose([manifest.mean, manifest.std], [first.mean(), first.std(ddof=1)], rtol=1e-6)
    np.testing.assert_allclose(manifest.channel_mean, rows.mean((0, 1)), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(manifest.channel_std, rows.std((0, 1)), rtol=1e-5)
    assert manifest.statistics_images == len(first)


def test_the_order_of_the_statistics_is_chosen_without_extracting_again(extraction):
    after = extract(having(extraction, grid=2, statistics="after"))
    store = train_store(extraction, after)
    files = sorted(file for file in store.path.rglob("*") if file.is_file())
    stamps = [file.stat().st_mtime_ns for file in files]
    before = extract(having(extraction, grid=2, statistics="before"))
    assert before.train == after.train
    assert (before.statistics, after.statistics) == ("before", "after")
    assert before.std > after.std  # resampling averages neighbours
    assert [file.stat().st_mtime_ns for file in files] == stamps


def test_where_nothing_is_resampled_both_orders_are_one(extraction):
    both = [extract(having(extraction, statistics=order)) for order in ("before", "after")]
    assert both[0] == both[1]
    assert both[0].statistics == "after"


def test_a_rerun_computes_nothing_and_gives_the_same_manifest(extraction):
    first = extract(extraction)
    files = sorted(store_folder(extraction).rglob("0"))
    stamps = [file.stat().st_mtime_ns for file in files]
    assert extract(extraction) == first
    assert [file.stat().st_mtime_ns for file in files] == stamps


@pytest.mark.parametrize("lost", ["chunk", "before"])
def test_an_interrupted_run_goes_on_to_the_same_bytes(extraction, lost):
    resampled = having(extraction, grid=2)
    whole = extract(resampled)
    store = train_store(extraction, whole)
    before = contents(store)
    (store.chunk_path(1) if lost == "chunk" else store.native_moments_path(1)).unlink()
    assert extract(resampled) == whole
    assert contents(store) == before


def test_damaged_moments_before_resampling_are_found_and_computed_again(extraction):
    resampled = having(extraction, grid=2, statistics="before")
    whole = extract(resampled)
    store = train_store(extraction, whole)
    before, file = contents(store), store.native_moments_path(1)
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    (finding,) = verify(StoreTarget(store.path, whole), deep=True)
    name = f"The file of chunk 1's moments before resampling ({file})"
    assert str(finding.fault) == f"{name} does not match its checksum, or is another chunk's."
    assert finding.command == f"rm {file} && dvc repro -f -s extract@m"
    assert not list(verify(StoreTarget(store.path, whole), deep=False))
    file.unlink()
    with pytest.raises(
        UserError, match=r"(?s)only these chunks are extracted again.*moments before .* found no file"
    ):
        train_store(extraction, whole)
    assert extract(resampled) == whole
    assert contents(store) == before


def test_another_layer_has_a_store_of_its_own_and_the_old_one_is_found_again(extraction):
    last = extract(extraction)
    first = extract(dataclasses.replace(extraction, layer=0))
    assert first.train.store != last.train.store
    assert extract(extraction) == last


def test_the_grid_is_common(extraction):
    manifest = extract(having(extraction, grid=2))
    assert manifest.open("val", store_folder(extraction)).tokens == 4


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (1e6, r"which float16 cannot hold. Choose another `layer`, or set `extract.dtype: float32`."),
        (float("nan"), r"which no type can hold. Look at its weights and at that image"),
        (float("inf"), r"which no type can hold"),
    ],
)
def test_activations_that_cannot_be_stored_are_named(extraction, tmp_path, value, sentence):
    faulty = pinned(tmp_path / "faulty", lambda network: network.norm.bias.fill_(value))
    with pytest.raises(UserError, match=r"'m' gives activations up to .* for train image 0 \('class") as error:
        extract(dataclasses.replace(extraction, weights=faulty))
    assert sentence in str(error.value)
    assert "0 of 3 chunks of m train are written and stay" in str(error.value)


def test_float32_stores_hold_what_half_precision_cannot(extraction, tmp_path):
    large = pinned(tmp_path / "large", lambda network: network.norm.bias.fill_(1e6))
    manifest = extract(having(dataclasses.replace(extraction, weights=large), dtype="float32"))
    assert manifest.mean == pytest.approx(1e6, rel=1e-3)
    assert manifest.dtype == "float32"


def test_reduced_precision_within_the_bound_has_a_store_of_its_own(extraction):
    exact, reduced = extract(extraction), extract(having(extraction, precision="bfloat16"))
    assert exact.train.store != reduced.train.store
    rows = [train_store(extraction, manifest).chunk(0).astype(np.float32) for manifest in (exact, reduced)]
    assert 0 < np.square(rows[0] - rows[1]).mean() < 1e-3 * rows[0].var()


def test_reduced_precision_that_moves_activations_is_refused(extraction, tmp_path):
    fragile = pinned(tmp_path / "fragile", lambda network: network.patch_embed.proj.bias.fill_(1e4))
    with pytest.raises(
        UserError, match="In bfloat16 the activations of 'm' move by .* of their variance; at most 0.001"
    ):
        extract(having(dataclasses.replace(extraction, weights=fragile), precision="bfloat16"))


def test_a_lost_image_is_named_and_finished_chunks_stay(extraction, image_folder):
    key = load_splits(extraction.images, extraction.root)["train"].frame["key"][4]
    kept = (image_folder / key).read_bytes()
    (image_folder / key).unlink()
    with pytest.raises(UserError, match=r"Image 4 \('.*'\) was readable when the index was made") as error:
        extract(running(extraction, batch_images=1))
    assert "1 of 3 chunks of m train are written and stay; `dvc repro extract@m` goes on from there." in str(
        error.value
    )
    (image_folder / key).write_bytes(kept)
    assert extract(extraction).train.images == 9


def test_a_folder_that_vanishes_midway_is_named_and_finished_chunks_stay(extraction, image_folder, tmp_path):
    small = running(having(extraction, chunk_images=1), batch_images=1)
    extractor = Extractor.load(small, torch.device("cpu"))
    store = create_store(extractor, "train")
    passing = Pass([extractor], [extractor.left("train", store)])
    with pytest.raises(UserError, match=r"\n\d of 9 chunks of m train are written and stay") as error:
        follow(passing, vanishing(passing.run(), lambda: image_folder.rename(tmp_path / "away")))
    assert str(image_folder) in str(error.value)
    assert store.done(0)
    assert not store.done(store.chunks - 1)
    first = store.chunk_path(0).stat().st_mtime_ns
    (tmp_path / "away").rename(image_folder)
    extract(small)
    assert store.chunk_path(0).stat().st_mtime_ns == first


def test_a_store_that_vanishes_midway_is_named(extraction, tmp_path):
    small = running(having(extraction, chunk_images=1), batch_images=1)
    extractor = Extractor.load(small, torch.device("cpu"))
    store = create_store(extractor, "train")
    passing = Pass([extractor], [extractor.left("train", store)])
    with pytest.raises(UserError, match=f"The store {store.path} disappeared while 'm' was being extracted"):
        follow(passing, vanishing(passing.run(), lambda: store.path.rename(tmp_path / "away")))
    extract(small)


def vanishing(computed, vanish):
    """`computed`, with an accident after the second image."""
    for number, images in enumerate(computed):
        yield images
        if number == 1:
            vanish()


def test_sizes_and_room_are_said_before_and_rates_after(extraction, caplog):
    caplog.set_level(logging.INFO)
    extract(extraction)
    text = caplog.text
    assert "m train: 9 images x 16 tokens x 24 channels, float16, 9.22kB in 3 chunks; 3 to compute" in text
    assert "m: need " in text
    assert "images/s" in text.split("m: need")[1]
    caplog.clear()
    extract(extraction)
    assert "3 chunks; 0 to compute" in caplog.text
    assert "m: need 0.00B, have " in caplog.text


def test_a_disk_without_room_is_refused_before_anything_is_computed(extraction):
    extractor = Extractor.load(extraction, torch.device("cpu"))
    huge = dataclasses.replace(create_store(extractor, "train"), images=10**12, chunk_images=10**11)
    with pytest.raises(UserError, match=r"There is no room for the activations: 768TB are still to be written"):
        announce([extractor.left("train", huge)])


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("place", ["chunk_path", "moments_path", "native_moments_path"])
def test_files_that_change_places_are_never_described_and_are_computed_again(extraction, split, place):
    """Without the manifest, which dvc removes before it runs a stage, only the files themselves can tell."""
    resampled = having(extraction, grid=2, statistics="before", chunk_images=1)
    whole = extract(resampled)
    store = whole.open(split, train_store(resampled, whole).path.parent)
    before = contents(store)
    one, other = getattr(store, place)(0), getattr(store, place)(1)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second), other.write_bytes(first)
    with pytest.raises(UserError, match=rf"Run `usae store verify --repair {store.path}`, then the same command"):
        extract(resampled)
    for finding in verify(StoreTarget(store.path, whole), deep=True):
        finding.fault.damaged.unlink()
    assert extract(resampled) == whole
    assert contents(store) == before


def test_activations_that_are_all_alike_are_refused(extraction):
    def silence(network):
        for parameter in network.parameters():
            parameter.zero_()

    pinned(extraction.weights, silence)
    with pytest.raises(UserError, match="'m' gives the same activations everywhere: there is nothing to find"):
        extract(extraction)


def test_a_network_that_gives_batches_another_width_is_named(extraction, monkeypatch):
    exact = Backbone.joint_maps

    def narrower(self, pixels, layers):
        return [maps[:, : 24 if len(pixels) == 1 else 20] for maps in exact(self, pixels, layers)]

    monkeypatch.setattr(Backbone, "joint_maps", narrower)
    with pytest.raises(
        UserError, match="'m' gives activations of width 20 for 4 images at once, and of width 24 for"
    ):
        extract(extraction)


@pytest.mark.parametrize("damage", ["another store's", "a flipped digit"])
def test_a_wrong_description_costs_no_chunk(extraction, damage):
    whole = extract(extraction)
    store = train_store(extraction, whole)
    before, file = contents(store), store.path / "zarr.json"
    if damage == "another store's":
        file.write_bytes((store.path.parent / whole.val.store / "zarr.json").read_bytes())
    else:
        file.write_text(file.read_text().replace(str(store.images), str(store.images + 1), 1))
    assert file.read_bytes() != before["zarr.json"]
    (finding,) = verify(StoreTarget(store.path, whole), deep=True)
    assert finding.fault.damaged == file
    assert re.search("describes another store, m-val-|its description has checksum", str(finding.fault))
    file.unlink()
    assert extract(extraction) == whole
    assert contents(store) == before


def test_the_first_training_images_alone_are_those_of_the_whole_store(extraction):
    whole, few = extract(extraction), extract(dataclasses.replace(extraction, most=5))
    assert (few.train.images, few.val) == (5, whole.val)
    assert few.train.images_digest == f"{whole.train.images_digest}[:5]"
    stores = [train_store(extraction, manifest) for manifest in (whole, few)]
    np.testing.assert_array_equal(stores[1].take(range(5)), stores[0].take(range(5)))
    assert extract(dataclasses.replace(extraction, most=whole.train.images)) == whole
