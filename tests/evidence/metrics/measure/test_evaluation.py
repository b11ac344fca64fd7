import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from usae.activations.store import ActivationStore
from usae.activations.store.manifests import Manifest, SplitManifest
from usae.common.errors import UserError
from usae.common.files.json_files import write_json
from usae.common.layout import START, Layout
from usae.common.params import MeasureParams
from usae.evidence.codes.encoding import encode_all, encode_split
from usae.evidence.codes.store import open_codes
from usae.evidence.metrics.dictionaries.tables import CONSISTENCY
from usae.evidence.metrics.labels.labels import TokenLabels
from usae.evidence.metrics.labels.loading import load_labels, one_of_each
from usae.evidence.metrics.labels.tables import LABEL_CONCEPTS, LABEL_PROBES, PROBES
from usae.evidence.metrics.measure import concept_tables
from usae.evidence.metrics.measure.concept_tables import CONCEPT_MODELS, EXEMPLARS, NULLS
from usae.evidence.metrics.measure.evaluation import Evaluation, evaluate
from usae.evidence.metrics.measure.opened import Opened
from usae.evidence.metrics.measure.tables import RECONSTRUCTION
from usae.evidence.metrics.summary import HEADLINES
from usae.images.pixels.index import Record, write_index
from usae.sae.universal import UniversalSAE

MODELS = ("supervised", "language")
WIDTHS = {"supervised": 6, "language": 9}
IMAGES = {"val": 10, "train": 14}
ENCODED = {"val": 10, "train": 5}
GRID, K, CONCEPTS, CHUNK = 3, 4, 32, 4
PARAMS = MeasureParams(threshold=0.1, agreement=0.1, exemplars=5, permutations=19)
CPU = torch.device("cpu")


def store_of(root: Path, model: str, split: str) -> SplitManifest:
    """Activations of two models that share a hidden cause, so that the SAEs have something in common."""
    cause = np.random.default_rng([1, IMAGES[split]]).normal(size=(IMAGES[split], GRID**2, 5))
    mix = np.random.default_rng([2, WIDTHS[model]]).normal(size=(5, WIDTHS[model]))
    store = ActivationStore.create(
        root / f"{model}-{split}", (*cause.shape[:2], WIDTHS[model]), CHUNK, "float16", {}
    )
    for chunk in range(store.chunks):
        store.write(chunk, (cause[list(store.span(chunk))] @ mix).astype(np.float16))
    sums = tuple(store.checksum(chunk) for chunk in range(store.chunks))
    return SplitManifest(store.path.name, IMAGES[split], "same", CHUNK, sums)


def sae_of(models: tuple[str, ...], seed: int, coarse: tuple[int, ...] = ()) -> UniversalSAE:
    torch.manual_seed(seed)
    sae = UniversalSAE({model: WIDTHS[model] for model in models}, CONCEPTS, K, coarse=coarse).eval()
    for model in models:
        part = sae.part(model)
        part.mean.fill_(0.1)
        part.std.fill_(2.0)
    return sae


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of every stage before `measure`, in a few kilobytes."""
    folder = tmp_path_factory.mktemp("finished")
    data, root = folder / "data", folder / "stores"
    sae_of(MODELS, 0).save_pretrained(data / "usae")
    sae_of(MODELS, 2).save_pretrained(data / "usae" / START)
    for model in MODELS:
        splits = {split: store_of(root, model, split) for split in IMAGES}
        fixed = {"backbone": {}, "layer": -1, "norm": True, "grid": GRID, "fit": "squash", "dtype": "float16"}
        scalars = {"mean": 0.0, "std": 1.0, "statistics": "after", "statistics_images": 1}
        moments = {**scalars, "channel_mean": (0.0,) * WIDTHS[model], "channel_std": ()}
        manifest = Manifest(model=model, width=WIDTHS[model], **fixed, **moments, **splits)
        manifest.save(data / "manifests" / f"{model}.json")
        for seed, kind in ((1, "independent"), (3, "brief")):
            sae_of((model,), seed).save_pretrained(data / "controls" / f"{kind}-{model}")
    encode_all(MODELS, ENCODED["train"], Layout(folder), root, CPU)
    write_images(data)
    return folder


@pytest.fixture(scope="module")
def evaluation(finished):
    return evaluated(MODELS, finished / "stores", finished / "data")


@pytest.fixture
def world(finished, tmp_path):
    """A copy of the run that a test may change: its data, and its stores."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path / "data", tmp_path / "stores"


def write_images(data: Path, truth_images: int = IMAGES["val"]) -> None:
    (data / "images").mkdir(exist_ok=True)
    records = [Record(key=str(image), data=b"", label=image % 2) for image in range(IMAGES["val"])]
    write_index(records, data / "images" / "val.parquet", None, ("even", "odd"))
    coverage = np.random.default_rng(0).integers(0, 256, (truth_images, GRID, GRID, 2), dtype=np.uint8)
    np.savez(
        data / "images" / "val_truth.npz", names=np.array(["shape: circle", "colour: red"]), coverage=coverage
    )


def evaluated(models: tuple[str, ...], root: Path, data: Path, seed: int = 0) -> Evaluation:
    return evaluate(Opened.load(models, Layout(data.parent), root, CPU), PARAMS, seed)


def test_a_scenes_class_is_the_one_label_of_a_group_that_it_has():
    names = ("shape: circle", "shape: star", "alone: x", "background: dots", "background: plain")
    coverage = np.zeros((3, 2, 2, 5), dtype=np.uint8)
    coverage[..., 0, 2] = coverage[0, 0, 0, 0] = coverage[1, 0, 0, :2] = 9  # no shape in image 2, two in image 1
    coverage[[0, 1, 2], 1, 1, [4, 3, 4]] = 1
    assert one_of_each(TokenLabels(names, coverage), 3).tolist() == [1, 0, 1]
    assert one_of_each(TokenLabels(names, coverage), 1).tolist() == [0]
    coverage[2, 0, 0, 3] = 1
    assert one_of_each(TokenLabels(names, coverage), 3) is None


def test_two_worker_processes_give_the_same_tables_to_the_last_bit(evaluation, finished):
    opened = Opened.load(MODELS, Layout(finished), finished / "stores", CPU)
    there = evaluate(opened, PARAMS, dask="local:2")
    assert there.numbers == evaluation.numbers
    for table, frame in evaluation.tables.items():
        pd.testing.assert_frame_equal(there.tables[table], frame, check_exact=True)


def test_tables_numbers_and_files_fit_together(evaluation, tmp_path):
    evaluation.write(tmp_path / "reports")
    reports = {file.stem: pd.read_parquet(file) for file in (tmp_path / "reports").glob("*.parquet")}
    assert set(reports) == {
        "reconstruction",
        "concepts",
        "concept_labels",
        "depth",
        "concept_models",
        "concept_pairs",
        "nulls",
        "consistency",
        "funnel",
        "patterns",
        "exemplars",
        "probes",
        "label_concepts",
        "label_probes",
        "alignment",
        "paper",
        "summary",
    }
    concepts, per_model = reports["concepts"], reports["concept_models"]
    assert len(concepts) == CONCEPTS
    assert len(per_model) == CONCEPTS * 2
    assert per_model["model"].tolist()[:2] == list(MODELS)
    fires = per_model.groupby("concept_id")["fires"].sum()
    assert (fires.to_numpy() == concepts["fires"]).all()
    assert (concepts["tokens"] == 10 * GRID**2).all()
    together = reports["patterns"].query("pattern == 3").set_index("concept_id")["fires"]
    assert together.to_dict() == concepts.query("cofires > 0").set_index("concept_id")["cofires"].to_dict()
    assert set(reports["patterns"]["models"]) <= {"supervised", "language", "supervised+language"}
    assert set(concepts["top_label"].dropna()) <= {"shape: circle", "colour: red"}
    assert concepts.loc[~concepts["alive"], "top_label"].isna().all()
    best = reports["concept_labels"].query("rank == 0").set_index("concept_id")["label"]
    assert concepts.set_index("concept_id")["top_label"].dropna().to_dict() == best.to_dict()
    np.testing.assert_allclose(per_model["energy"], per_model["mean_code"], rtol=1e-6)
    headlines = json.loads((tmp_path / "reports" / "metrics.json").read_text())
    assert len(headlines) == len(HEADLINES)
    assert all(value is None or np.isfinite(value) for value in headlines.values())
    numbers = reports["summary"].set_index("name")["value"].to_dict()
    assert headlines["alive"] == numbers["alive"]
    assert numbers["alive"] == int(concepts["alive"].sum())
    assert numbers["images"] == 10
    assert numbers["l0/language"] <= K
    assert numbers["r2/supervised/language"] == pytest.approx(
        reports["reconstruction"].query("sae == 'usae' and split == 'val'")["r2_channel"].iloc[1], rel=1e-5
    )
    assert {file.name for file in (tmp_path / "reports" / "plots").iterdir()} == {
        "r2.csv", "entropy.csv", "funnel.csv", "cofire.csv", "importance.csv", "consistency.csv", "nulls.csv",
        "stability.csv",
    }  # fmt: skip


def test_reconstruction_equals_encoding_and_decoding_at_once(evaluation, world):
    data, root = world
    table = evaluation.tables[RECONSTRUCTION]
    assert table.groupby("sae").size().to_dict() == {"usae": 8, "start": 8, "independent": 4, "brief": 4}
    sae = UniversalSAE.from_pretrained(data / "usae")
    tokens = {m: np.array(ActivationStore.open(root / f"{m}-train").chunk(0)) for m in MODELS}
    second = {m: np.array(ActivationStore.open(root / f"{m}-train").chunk(1))[:1] for m in MODELS}
    raw = {m: torch.from_numpy(np.concatenate([tokens[m], second[m]])).float() for m in MODELS}  # 5 encoded images
    with torch.inference_mode():
        for source in MODELS:
            for target in MODELS:
                truth = sae.standardise(target, raw[target]).double()
                guess = sae.decode(target, sae.encode({source: raw[source]})[source]).double()
                expected = 1 - ((truth - guess) ** 2).mean() / ((truth - truth.mean()) ** 2).mean()
                row = table.query("sae == 'usae' and split == 'train' and source == @source and target == @target")
                assert row["r2_scalar"].item() == pytest.approx(float(expected), abs=2e-3)  # codes are float16
                assert row["tokens"].item() == 5 * GRID**2


def test_the_ceilings_are_regressions_on_all_training_images(evaluation, world):
    """Directly: least squares from all training images, encoded or not, judged on the held-out ones."""
    _, root = world
    table = evaluation.tables[RECONSTRUCTION]
    rows = {}
    for split, images in IMAGES.items():
        stores = [ActivationStore.open(root / f"{model}-{split}") for model in MODELS]
        rows[split] = [store.take(range(images)).reshape(-1, store.width).astype(np.float64) for store in stores]
    weights, *_ = np.linalg.lstsq(np.c_[rows["train"][1], np.ones(14 * GRID**2)], rows["train"][0])
    guess = np.c_[rows["val"][1], np.ones(90)] @ weights
    truth = rows["val"][0]
    expected = 1 - ((truth - guess) ** 2).sum() / ((truth - truth.mean(0)) ** 2).sum()
    row = table.query("sae == 'usae' and split == 'val' and source == 'language' and target == 'supervised'").iloc[
        0
    ]
    assert row["r2_ridge"] == pytest.approx(expected, abs=1e-3)
    assert row["r2_ridge"] > 0.99  # five causes, nine channels
    assert row["r2_of_ridge"] == pytest.approx(row["r2_channel"] / row["r2_ridge"])
    assert row["r2_ridge_others"] == pytest.approx(row["r2_ridge"], abs=1e-9)  # one other model
    assert 0.5 < row["r2_rank_k"] < row["r2_ridge"] - 1e-3  # four of five causes
    ceilings = ["r2_ridge", "r2_rank_k", "r2_ridge_others", "r2_of_ridge"]
    assert table.loc[table["split"] == "train", ceilings].isna().all(axis=None)
    assert table.loc[table["split"] == "val", ceilings].notna().all(axis=None)


def test_the_ceilings_do_not_depend_on_how_many_training_images_are_encoded(evaluation, world):
    data, root = world
    columns = ["r2_ridge", "r2_rank_k", "r2_ridge_others"]
    before = evaluation.tables[RECONSTRUCTION].query("split == 'val'")[columns]
    (data / "codes" / "train").rename(data / "set-aside")
    found = evaluated(MODELS, root, data)
    assert found.tables[RECONSTRUCTION][columns].equals(before)
    assert found.numbers["r2_ridge_cross_mean"] > 0.9


def test_classes_are_kept_apart_where_images_have_some(evaluation, world):
    data, root = world
    assert set(evaluation.tables[NULLS]["null"]) == {"images", "class", "tokens"}
    records = [Record(key=str(image), data=b"") for image in range(10)]
    write_index(records, data / "images" / "val.parquet", None, ())
    assert set(evaluated(MODELS, root, data).tables[NULLS]["null"]) == {"images", "tokens"}


def test_the_seed_is_that_of_the_permutations(evaluation, world):
    data, root = world
    again, other = (evaluated(MODELS, root, data, seed).tables[NULLS]["null_mean"] for seed in (0, 1))
    assert again.equals(evaluation.tables[NULLS]["null_mean"])
    assert not again.equals(other)


def test_independent_saes_are_matched_with_the_universal_one(evaluation, world):
    data, root = world
    table = evaluation.tables[CONSISTENCY]
    counts = table.groupby(["model", "sae", "against"]).size()
    assert counts.to_dict() == {
        (model, sae, against): CONCEPTS
        for model in MODELS
        for sae, against in (("usae", "independent"), ("usae", "gaussian"), ("start", "independent"))
    }
    for split in IMAGES:
        (data / "codes" / split / "independent").rename(data / f"set-aside-{split}")
    assert evaluated(MODELS, root, data).tables[CONSISTENCY].empty


def test_writing_again_gives_the_same_bytes(evaluation, world, tmp_path):
    data, root = world

    def digests(evaluation):
        evaluation.write(tmp_path / "reports")
        files = sorted(file for file in (tmp_path / "reports").rglob("*") if file.is_file())
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    first = digests(evaluation)
    assert len(first) == 26
    assert digests(evaluated(MODELS, root, data)) == first


def test_models_come_from_the_argument_and_in_its_order(world):
    data, root = world
    found = evaluated(MODELS[::-1], root, data)
    assert found.tables[CONCEPT_MODELS]["model"].tolist()[:2] == ["language", "supervised"]
    only = evaluated(("language",), root, data)
    assert only.numbers["r2_cross_mean"] is None
    assert set(only.tables[EXEMPLARS]["ranking"]) == {"mean", "language"}
    assert only.headline.startswith(f"r2_self_mean {only.numbers['r2_self_mean']}, r2_cross_mean None")


def test_independent_saes_are_optional(evaluation, world):
    data, root = world
    full = evaluation.numbers
    assert "r2_independent/language" in full
    table = evaluation.tables[RECONSTRUCTION].query("split == 'val' and source == target")
    r2 = table.groupby("sae")["r2_channel"].mean()
    assert full["alignment_tax_mean"] == pytest.approx(r2["independent"] - r2["usae"], rel=1e-4)
    assert full["alignment_tax_equal_encoder_mean"] == pytest.approx(r2["brief"] - r2["usae"], rel=1e-4)
    assert full["r2_self_mean/start"] == pytest.approx(r2["start"], rel=1e-4)
    for split in IMAGES:
        for kind in ("independent", "brief"):
            (data / "codes" / split / kind).rename(data / f"set-aside-{split}-{kind}")
    assert "alignment_tax_mean" not in evaluated(MODELS, root, data).numbers


def test_the_levels_are_those_of_the_sae(evaluation, world, tmp_path):
    data, root = world
    one = evaluation.tables[concept_tables.CONCEPTS]
    assert one["level"].eq(1).all()
    assert one[["refines", "refines_phi"]].isna().all(axis=None)
    sae_of(MODELS, 0, coarse=(8,)).save_pretrained(data / "usae")
    encode_all(MODELS, ENCODED["train"], Layout(tmp_path), root, CPU)
    evaluated(MODELS, root, data).write(tmp_path / "reports")
    two = pd.read_parquet(tmp_path / "reports" / "concepts.parquet")
    assert two["level"].tolist() == [1] * 8 + [2] * (CONCEPTS - 8)
    assert two.loc[:7, "refines"].isna().all()
    parents = two["refines"].dropna()
    assert set(parents) <= set(two.query("level == 1 and alive")["concept_id"])
    assert two.loc[parents.index, "alive"].all()
    assert (two["refines_phi"].dropna() > 0).all()
    assert two["refines_phi"].notna().equals(two["refines"].notna())
    assert len(parents) > 8


def test_without_truth_the_labels_of_images_are_used(world):
    data, root = world
    (data / "images" / "val_truth.npz").unlink()
    concepts = evaluated(MODELS, root, data).tables[concept_tables.CONCEPTS]
    assert set(concepts["top_label"].dropna()) <= {"even", "odd"}


def test_without_any_labels_the_columns_are_null(world, tmp_path):
    data, root = world
    (data / "images" / "val_truth.npz").unlink()
    write_index(
        [Record(key=str(image), data=b"") for image in range(10)], data / "images" / "val.parquet", None, ()
    )
    evaluation = evaluated(MODELS, root, data)
    evaluation.write(tmp_path / "reports")
    assert evaluation.tables[LABEL_CONCEPTS].empty
    assert evaluation.tables[LABEL_PROBES].empty
    assert not [name for name in evaluation.numbers if name.startswith("label_")]
    table = pq.read_table(tmp_path / "reports" / "concepts.parquet")
    assert str(table.schema.field("top_label").type) == "string"
    assert table["top_label"].null_count == table["top_label_share"].null_count == CONCEPTS


def test_probes_are_collected_where_there_are_some(world):
    data, root = world
    folder = data / "weights" / "language"
    folder.mkdir(parents=True)
    record = {
        "group": "shape",
        "attribute": "circle",
        "auc_trained": 0.9,
        "auc_untrained": 0.6,
        "positives": 7,
        "n": 90,
    }
    write_json(folder / "probes.json", {"probes": [record]})
    probes = evaluated(MODELS, root, data).tables[PROBES]
    assert probes.to_dict("records") == [{"model": "language", **record}]
    (folder / "probes.json").write_text((folder / "probes.json").read_text().replace("0.9", "0.8"))
    with pytest.raises(UserError, match=r"probes.json is damaged .* run `dvc repro -f -s weights@language`"):
        evaluated(MODELS, root, data)


def test_encoding_counts_the_images_of_every_model_and_split(world):
    data, root = world
    assert encode_all(MODELS, ENCODED["train"], Layout(data.parent), root, CPU) == 2 * sum(ENCODED.values())
    kinds = {"usae": "", "start": "start", "independent": "independent", "brief": "brief"}
    for split, images in ENCODED.items():
        for sae, folder in kinds.items():
            stores = open_codes(data / "codes" / split / folder, MODELS).values()
            assert [(store.sae, store.images) for store in stores] == [(sae, images)] * 2


def test_truth_of_other_images_is_refused(world):
    data, _ = world
    write_images(data, truth_images=9)
    with pytest.raises(UserError, match="describes 9 images, the index beside it has 10"):
        load_labels(data / "images", "val", 10)
    with pytest.raises(UserError, match=r"hold 11 images, the index in .* has 10\."):
        load_labels(data / "images", "val", 11)


def test_codes_of_more_images_than_activations_are_refused(world):
    data, root = world
    for model in MODELS:
        store = ActivationStore.open(root / f"{model}-train")
        encode_split(sae_of(MODELS, 0), model, store, data / "codes" / "val" / model, "usae", 14, CPU)
    with pytest.raises(
        UserError, match="supervised has codes of 14 images x 9 tokens, language has activations of"
    ):
        evaluated(MODELS, root, data)
