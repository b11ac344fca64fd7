"""Models in one pass over the images: the bytes of separate extraction, whatever is there already.

Layers of one network share its forward pass, networks share what is decoded.
"""

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from usae.activations.extraction.extract import companions_of, create_stores, extract, join
from usae.activations.extraction.extractor import Extraction, Extractor
from usae.activations.extraction.filling import portions
from usae.activations.extraction.forward import calls
from usae.activations.extraction.joint import ChunkPart, ImageBatch, Pass, image_batches
from usae.activations.extraction.work import Work, announce
from usae.activations.store import ActivationStore
from usae.backbones.networks.backbone import pin
from usae.backbones.networks.building import build
from usae.common.errors import UserError
from usae.common.params import BackboneParams, ImagesParams
from usae.images.pixels.geometry import Square
from usae.images.pixels.index import ImageIndex
from usae.images.sources.writing import write_images

NETWORKS = {
    "vit": BackboneParams(
        timm="vit_tiny_patch16_224",
        kwargs={"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": 0},
        weights="random",
    ),
    "resnet": BackboneParams(
        timm="resnet10t", kwargs={"channels": [8, 12, 16, 20], "num_classes": 0}, weights="random", size=32
    ),
    "wide": BackboneParams(
        timm="resnet10t",
        kwargs={"channels": [8, 12, 16, 24], "num_classes": 0},
        weights="random",
        size=48,
        interpolation="bilinear",
    ),
}
OVERWRITING = """
from torch import nn

class Overwriting(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 8, 8), nn.ReLU(inplace=True)

    def forward_intermediates(self, x, indices, norm, output_fmt, intermediates_only, stop_early=False):
        maps = [self.first(x)]
        if not stop_early or max(index % 2 for index in indices):
            maps.append(self.second(maps[0]))
        return [maps[index] for index in sorted(index % 2 for index in indices)]
"""
SINGLE = """
from torch import nn

class Single(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 8, 8)

    def forward_intermediates(self, x, indices, norm, output_fmt, intermediates_only, stop_early=False):
        if len(x) > 1:
            raise ValueError("one image at a time")
        return [self.first(x) for _ in indices]
"""


@pytest.fixture
def layer(params, image_folder, tmp_path, monkeypatch):
    """layer(name, number, ...): how a layer of the network pinned in `tmp_path / network` is read."""
    monkeypatch.delenv("USAE_STORE", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    images = ImagesParams(source="folder", path=str(image_folder), train=None, val=None, val_share=0.3)
    write_images(tmp_path / "images", images, seed=0, workers=1)

    def reading(network, number, store="together", chunk_images=4, batch_images=3, one_pass="layers", **extract):
        settings = {"grid": 4, "chunk_images": chunk_images, "statistics_images": None, **extract}
        runtime = {
            "store": str(tmp_path / store),
            "workers": 2,
            "batch_images": batch_images,
            "one_pass": one_pass,
        }
        return Extraction(
            model=f"{network}{number}",
            weights=pinned(tmp_path / network, NETWORKS.get(network)),
            layer=number,
            norm=False,
            images=tmp_path / "images",
            root=str(image_folder),
            params=params.extract.model_copy(update=settings),
            runtime=params.runtime.model_copy(update=runtime),
        )

    return reading


def pinned(folder, backbone, change=lambda network: None, seed=0):
    """The network's weights in `folder`, after `change`, where they are not there yet."""
    if not folder.is_dir():
        torch.manual_seed(seed)
        network = build(backbone)
        with torch.no_grad():
            change(network)
        pin(backbone, folder, network)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def stamps(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("network", "precision", "fit"),
    [("vit", "float32", "squash"), ("vit", "bfloat16", "center"), ("resnet", "float32", "center")],
)
def test_one_pass_gives_the_bytes_of_a_pass_for_each_layer(layer, tmp_path, network, precision, fit):
    layers = (2, 0, -1)
    settings = {"precision": precision, "fit": fit}
    together = [layer(network, number, **settings) for number in layers]
    first = extract(together[0], together[1:])
    before = stamps(tmp_path / "together")
    manifests = [first, *(extract(each, together) for each in together[1:])]
    assert stamps(tmp_path / "together") == before  # the first pass had filled all
    assert len(list((tmp_path / "together").iterdir())) == 2 * len(layers)
    apart = [extract(layer(network, number, "apart", **settings)) for number in layers]
    assert manifests == apart
    assert contents(tmp_path / "together") == contents(tmp_path / "apart")


def test_stores_of_other_chunk_sizes_and_states_have_the_batches_they_would_have_alone(layer, tmp_path):
    sizes = {0: 2, 1: 4, 2: 5}  # images a chunk; batches of 3
    apart = {number: layer("vit", number, "apart", chunk_images=size) for number, size in sizes.items()}
    for each in apart.values():
        extract(each)
    together = {number: layer("vit", number, chunk_images=size) for number, size in sizes.items()}
    for each in together.values():
        extract(each)
    for lost in ("vit0-train-*/c/1", "vit0-train-*/c/3", "vit1-train-*/moments/0.f64", "vit2-*/c/0"):
        for path in list((tmp_path / "together").glob(lost)):
            (path / "0" / "0" if path.is_dir() else path).unlink()
    extract(together[0], [together[2], together[1]])
    assert contents(tmp_path / "together") == contents(tmp_path / "apart")


def test_batches_that_stores_have_in_common_are_one(tmp_path):
    works = [work(tmp_path / "a", 4, (0, 1)), work(tmp_path / "b", 8, (0,)), work(tmp_path / "c", 2, (1, 5))]
    assert image_batches(works, 4) == [
        ImageBatch(range(4), (ChunkPart(0, 0, True), ChunkPart(1, 0, False))),
        ImageBatch(range(2, 4), (ChunkPart(2, 1, True),)),
        ImageBatch(range(4, 8), (ChunkPart(0, 1, True), ChunkPart(1, 0, True))),
        ImageBatch(range(10, 11), (ChunkPart(2, 5, True),)),
    ]
    assert portions(works) == [((0, 1), (0,), (1,)), ((), (), (5,))]


def work(path, chunk_images, chunks):
    return Work(path.name, "train", ActivationStore.create(path, (11, 1, 1), chunk_images, "float16", {}), chunks)


def test_a_companion_that_cannot_be_stored_is_left_to_its_own_stage(layer, tmp_path, caplog):
    pinned(tmp_path / "vit", NETWORKS["vit"], lambda network: network.blocks[1].mlp.fc2.bias.fill_(1e6))
    fine, large = layer("vit", 0), layer("vit", 1)
    manifest = extract(fine, [large])
    assert "'vit1' is left to its own extraction. 'vit1' gives activations up to 1e+06" in caplog.text
    assert manifest == extract(layer("vit", 0, "apart"))
    with pytest.raises(UserError, match="'vit1' gives activations up to 1e"):
        extract(large, [fine])


def test_a_store_in_the_way_of_a_companion_does_not_stop_the_others(layer, tmp_path):
    early, late, last = (layer("vit", number) for number in (0, 1, 2))
    store = extract(early).train.store
    (tmp_path / "together" / store / "zarr.json").write_text("{}")
    extract(last, [early, late])
    assert contents(tmp_path / "together").keys() > {f"{extract(late).train.store}/c/2/0/0"}
    with pytest.raises(UserError, match=r"zarr.json`, then run the same command again"):
        extract(early)


def test_a_network_that_writes_over_its_layers_has_a_pass_for_each(layer, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / "overwriting.py").write_text(OVERWRITING)
    network = BackboneParams(factory=f"{tmp_path}/overwriting.py:Overwriting", weights="random", size=32)
    pinned(tmp_path / "own", network)
    first, second = layer("own", 0), layer("own", 1)
    assert extract(first, [second]) == extract(layer("own", 0, "apart"))
    assert (
        "own0, own1: each has a pass of its own; in one pass the activations of layer 0 are others" in caplog.text
    )
    assert not list((tmp_path / "together").glob("own1-*/c"))


def test_only_layers_of_the_pinned_network_are_companions_unless_models_are_asked_for(layer, tmp_path):
    extractor = Extractor.load(layer("vit", -1), torch.device("cpu"))
    pinned(tmp_path / "other", NETWORKS["vit"], seed=1)
    pinned(tmp_path / "damaged", NETWORKS["vit"])
    (tmp_path / "damaged" / "config.json").write_text("{")
    strangers = [dataclasses.replace(layer("vit", 0), weights=tmp_path / name) for name in ("other", "damaged")]
    assert join(extractor, [*strangers, layer("vit", 7)]) == []
    known = [dataclasses.replace(each, runtime=layer("vit", 0, one_pass="models").runtime) for each in strangers]
    assert [each.extraction.weights for each, _ in join(extractor, known)] == [tmp_path / "other"]
    ((companion, works),) = join(extractor, [*strangers, layer("vit", 0)])
    assert companion.extraction.layer == 0
    assert [len(work.chunks) for work in works] == [3, 1]


def test_a_companion_whose_weights_are_pinned_later_finds_its_chunks(layer, tmp_path):
    last = layer("vit", -1)
    early = dataclasses.replace(layer("vit", 0), weights=tmp_path / "later")
    extract(last, [early])
    before = stamps(tmp_path / "together")
    pinned(tmp_path / "later", NETWORKS["vit"])
    manifest = extract(early)
    assert stamps(tmp_path / "together") == before
    assert manifest == extract(layer("vit", 0, "apart"))


def test_companions_are_layers_of_the_same_entry_read_in_the_same_way(params):
    one = params.zoo[params.models[0]]
    other = one.model_copy(update={"backbone": one.backbone.model_copy(update={"weights": "random"})})
    zoo = {
        "asked": one,
        "early": one.model_copy(update={"layer": 0}),
        "path": one.model_copy(update={"layer": "blocks.0"}),
        "raw": one.model_copy(update={"norm": not one.norm}),
        "other": other,
        "unused": one,
    }
    run = params.model_copy(update={"zoo": zoo, "models": ("early", "path", "raw", "other", "asked")})
    assert [each.model for each in companions_of(run, "asked")] == ["early"]
    assert companions_of(passing(run, "none"), "asked") == []


def test_with_models_in_one_pass_companions_are_also_all_that_are_pinned(params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    zoo = dict.fromkeys(("asked", "same", "pinned", "coming", "unused"), params.zoo[params.models[0]])
    for name in ("pinned", "coming"):
        zoo[name] = zoo[name].model_copy(update={"backbone": NETWORKS["vit"]})
    run = params.model_copy(update={"zoo": zoo, "models": ("same", "pinned", "coming", "asked")})
    for name in ("pinned", "unused", "asked"):
        pinned(tmp_path / "data" / "weights" / name, NETWORKS["vit"])
    assert [each.model for each in companions_of(passing(run, "models"), "asked")] == ["same", "pinned"]
    assert [each.model for each in companions_of(passing(run, "layers"), "asked")] == ["same"]


def passing(run, one_pass):
    return run.model_copy(update={"runtime": run.runtime.model_copy(update={"one_pass": one_pass})})


def test_networks_in_one_pass_give_the_bytes_of_a_pass_for_each(layer, tmp_path):
    sizes = {("vit", -1): 6, ("wide", -1): 3, ("resnet", 2): 6, ("vit", 0): 4, ("wide", 1): 8}  # images a chunk
    models = [layer(*each, chunk_images=size, one_pass="models") for each, size in sizes.items()]
    models.append(dataclasses.replace(models[0], model="normed", norm=True))  # as other calls of the vit give them
    models.append(dataclasses.replace(models[0], model="path", layer="blocks.1"))
    first = extract(models[0], models[1:])
    before = stamps(tmp_path / "together")
    manifests = [first, *(extract(each, models) for each in models[1:])]
    assert stamps(tmp_path / "together") == before  # the first pass had filled all
    assert len(list((tmp_path / "together").iterdir())) == 2 * len(models)
    own = [dataclasses.replace(each, runtime=elsewhere(each.runtime, tmp_path / "apart")) for each in models]
    assert [extract(each) for each in own] == manifests
    assert contents(tmp_path / "together") == contents(tmp_path / "apart")


def elsewhere(runtime, store):
    return runtime.model_copy(update={"store": str(store)})


def test_networks_that_want_the_same_pixels_have_them_decoded_and_resized_once(layer, monkeypatch):
    opened, resized, images = [], [], ImageIndex.open
    monkeypatch.setattr(ImageIndex, "open", lambda index, image: (opened.append(image), images(index, image))[1])
    square = Square.of
    monkeypatch.setattr(Square, "of", lambda own, image: (resized.append(own.size), square(own, image))[1])
    models = [layer(name, -1, one_pass="models") for name in ("vit", "resnet", "wide")]
    extractors = [Extractor.load(models[0], torch.device("cpu"))]
    extractors += [companion for companion, _ in join(extractors[0], models[1:])]
    works = [each.left("train", create_stores(each)["train"]) for each in extractors]
    opened.clear()
    resized.clear()
    assert sum(Pass(extractors, works).run()) == 9
    assert sorted(opened) == list(range(9))
    assert sorted(resized) == [32] * 9 + [48] * 9


def test_a_network_that_refuses_a_batch_does_not_stop_the_model_that_was_asked_for(layer, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / "single.py").write_text(SINGLE)
    network = BackboneParams(factory=f"{tmp_path}/single.py:Single", weights="random", size=32)
    pinned(tmp_path / "single", network)
    single, fine = (layer(name, 0, one_pass="models") for name in ("single", "vit"))
    assert extract(fine, [single]) == extract(layer("vit", 0, "apart"))
    assert "single0: each has a pass of its own; in one pass ValueError: one image at a time" in caplog.text


def test_layers_of_another_network_share_its_forward_pass_too(layer):
    models = [layer(*each, one_pass="models") for each in (("vit", -1), ("resnet", 1), ("resnet", 2), ("vit", 0))]
    extractors = [Extractor.load(models[0], torch.device("cpu"))]
    extractors += [companion for companion, _ in join(extractors[0], models[1:])]
    assert calls([each.forward for each in extractors]) == [[0, 3], [1, 2]]


def test_a_network_that_cannot_be_stored_is_left_to_its_own_stage(layer, tmp_path, caplog):
    pinned(tmp_path / "resnet", NETWORKS["resnet"], lambda network: network.layer4[0].bn2.bias.fill_(1e6))
    fine, large, other = (layer(name, -1, one_pass="models") for name in ("vit", "resnet", "wide"))
    manifest = extract(fine, [large, other])
    assert "'resnet-1' is left to its own extraction. 'resnet-1' gives activations up to 1e+06" in caplog.text
    assert manifest == extract(layer("vit", -1, "apart"))
    before = stamps(tmp_path / "together")
    assert extract(other) == extract(layer("wide", -1, "apart"))
    assert stamps(tmp_path / "together") == before


def test_the_room_for_all_is_asked_before_anything_is_computed(layer):
    extractor = Extractor.load(layer("vit", -1), torch.device("cpu"))
    ((companion, _),) = join(extractor, [layer("vit", 0)])
    huge = [
        Work(each.extraction.model, "train", dataclasses.replace(store, images=10**12, chunk_images=10**11), (0,))
        for each in (extractor, companion)
        for store in [create_stores(each)["train"]]
    ]
    with pytest.raises(UserError, match=r"1.54PB are still .* `runtime.one_pass: none` extracts 'vit-1' alone\.$"):
        announce(huge)


def test_a_pass_for_several_layers_decodes_once_and_runs_the_network_once(layer):
    together = [layer("vit", number, chunk_images=2, batch_images=2) for number in (-1, 0)]
    extractors = [Extractor.load(together[0], torch.device("cpu"))]
    extractors += [companion for companion, _ in join(extractors[0], together[1:])]
    works = [each.left("train", create_stores(each)["train"]) for each in extractors]
    calls, network = [], extractors[0].forward.backbone.network
    network.blocks[0].register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    passing = Pass(extractors, works)
    assert list(passing.run()) == calls == [2, 2, 2, 2, 1]
    assert passing.images == 9
    assert all(np.isfinite(work.store.chunk(0)).all() for work in works)
