import re

import numpy as np
import pandas as pd
import pytest
import torch

from tests.activations.extraction.test_extract import TINY
from usae.activations.extraction.extract import extract
from usae.activations.extraction.extractor import Extraction
from usae.backbones.networks.backbone import pin
from usae.backbones.networks.building import build
from usae.common.errors import UserError
from usae.common.layout import Layout
from usae.common.params import ImagesParams
from usae.common.tables import write_table
from usae.evidence.ood.evaluation import HELD_OUT, OTHER, OodEvaluation
from usae.evidence.ood.images import other_images
from usae.evidence.ood.tables import OOD
from usae.images.pixels.index import ImageIndex
from usae.images.sources.writing import write_images
from usae.sae.universal import UniversalSAE
from usae.training.start import set_statistics

MODELS = ("a", "b")
MOST = 6


@pytest.fixture
def scenes(tmp_path) -> ImageIndex:
    """Held-out scenes of the generated world."""
    images = ImagesParams(source="shapes", path=None, train=8, val=10, val_share=0.1)
    write_images(Layout(tmp_path).images, images, seed=0, workers=1)
    return ImageIndex.load(Layout(tmp_path).images / "val.parquet")


@pytest.fixture
def evaluation(params, tmp_path, scenes, monkeypatch):
    """Two random networks that want other pixels, a random SAE of both, and stores of the held-out scenes."""
    monkeypatch.delenv("USAE_STORE", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    settings = params.extract.model_copy(update={"grid": 4, "chunk_images": 4})
    runtime = params.runtime.model_copy(
        update={"store": str(tmp_path / "activations"), "batch_images": 4, "device": "cpu"}
    )
    layout, manifests = Layout(tmp_path), {}
    for seed, (model, interpolation) in enumerate(zip(MODELS, ("bicubic", "bilinear"), strict=True)):
        torch.manual_seed(seed)
        network = TINY.model_copy(update={"interpolation": interpolation})
        pin(network, layout.weights / model, build(network))
        extraction = Extraction(model, layout.weights / model, -1, True, layout.images, None, settings, runtime)
        manifests[model] = extract(extraction)
    sae = UniversalSAE({model: manifest.width for model, manifest in manifests.items()}, 20, 3).eval()
    for model, manifest in manifests.items():
        set_statistics(sae, model, manifest, params.train)
    sae.save_pretrained(layout.usae)
    loaded = OodEvaluation.load(layout, manifests, settings, runtime, threshold=0.1, device=torch.device("cpu"))
    return loaded, {model: manifest.open("val", tmp_path / "activations") for model, manifest in manifests.items()}


def sides(table: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows of held-out and of other images, without the column that tells them apart."""
    return [
        table[table["images"] == name].drop(columns="images").reset_index(drop=True) for name in (HELD_OUT, OTHER)
    ]


def test_the_held_out_images_as_other_ones_give_the_same_numbers(evaluation, scenes, tmp_path):
    ood, stores = evaluation
    table = ood.compare(stores, scenes, MOST)
    write_table(OOD, table, tmp_path / "ood.parquet")
    held_out, other = sides(table)
    pd.testing.assert_frame_equal(held_out, other, check_exact=True)
    assert list(zip(held_out["source"], held_out["target"], strict=True)) == [
        (s, t) for s in MODELS for t in MODELS
    ]
    assert set(held_out["count"]) == {MOST}
    assert set(held_out["tokens"]) == {MOST * 16}
    assert held_out["cofire_proportion"].isna().tolist() == [True, False, False, True]


def test_negatives_are_the_same_images_and_other_numbers(evaluation, scenes):
    ood, stores = evaluation
    negatives = other_images("negatives", scenes, MOST, 0, 1)
    total = np.asarray(scenes.open(3)).astype(int) + np.asarray(negatives.open(3))
    assert (total == 255).all()
    held_out, other = sides(ood.compare(stores, negatives, 100))
    assert set(other["count"]) == {10}
    assert (held_out["r2_channel"] != other["r2_channel"]).all()


def test_as_many_held_out_images_stand_beside_a_smaller_set(evaluation, image_folder, scenes):
    ood, stores = evaluation
    few = other_images(str(image_folder), scenes, 4, 0, 1)
    assert len(few) < 10
    assert {tuple(side["count"]) for side in sides(ood.compare(stores, few, 100))} == {(len(few),) * 4}


def test_energy_grows_with_the_decoders_gain(evaluation, scenes):
    ood, stores = evaluation
    before = sides(ood.compare(stores, scenes, MOST))[0].set_index("source")["energy"]
    ood.sae.part("a").gain.mul_(2)
    after = sides(ood.compare(stores, scenes, MOST))[0].set_index("source")["energy"]
    np.testing.assert_allclose(after / before, np.where(before.index == "a", 2, 1), rtol=1e-6)


def test_a_folder_is_drawn_from_by_seed_and_unreadable_files_are_left_out(image_folder, scenes, caplog):
    whole = other_images(str(image_folder), scenes, 100, 0, 1)
    assert len(whole) == 12
    assert re.search(r"[1-9]\d* of \d+ images of `ood\.images` cannot be read, such as \S+: ", caplog.text)
    assert whole.open(0).size == (30, 20)
    few, others = (other_images(str(image_folder), scenes, 5, seed, 1).frame["key"].tolist() for seed in (0, 1))
    assert set(few) <= set(whole.frame["key"])
    assert few != others


def test_folders_without_images_are_refused(tmp_path, scenes, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"`ood\.images` is 'nowhere', which is not a folder here"):
        other_images("nowhere", scenes, 5, 0, 1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no image below 'empty'.*Check `ood\.images` in params\.yaml"):
        other_images("empty", scenes, 5, 0, 1)
    (tmp_path / "empty/text.png").write_text("not a picture")
    with pytest.raises(
        UserError, match=r"None of the 1 images drawn from 'empty' .* can be read(?s:.)*text\.png: "
    ):
        other_images("empty", scenes, 5, 0, 1)


def test_activations_that_the_stores_type_cannot_hold_are_refused(evaluation, scenes):
    ood, _ = evaluation
    with torch.no_grad():
        for parameter in ood.networks["b"].backbone.parameters():
            parameter.mul_(1e6)
    with pytest.raises(
        UserError, match=r"'b' gives activations up to .* `ood\.images`, which float16 cannot hold"
    ):
        list(ood.extracted(scenes, MOST))
