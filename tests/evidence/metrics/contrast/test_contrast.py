"""Measuring controls on the fly gives what encoding, keeping and measuring gives, after training and before it."""

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from tests.support.worlds import store_at
from usae.common.layout import START
from usae.common.runtime import memory
from usae.common.tables import write_table
from usae.evidence.codes.encoding import encode_split
from usae.evidence.codes.store import open_codes
from usae.evidence.estimators import contribution_norms
from usae.evidence.metrics.contrast.contrast import Contrasts, contrast_tables
from usae.evidence.metrics.contrast.measured import HeldOut
from usae.evidence.metrics.contrast.numbers import MEASURES
from usae.evidence.metrics.contrast.sensitivity import repeated_frame
from usae.evidence.metrics.contrast.tables import (
    CONTROL_CONCEPTS,
    CONTROLS,
    REPEATED,
    SENSITIVITY,
    STABILITY,
    START_EXEMPLARS,
)
from usae.evidence.metrics.firing.evidence import evidence
from usae.evidence.metrics.firing.nulls import IMAGES
from usae.evidence.metrics.funnel import Thresholds
from usae.evidence.metrics.measure.counting import concept_statistics
from usae.evidence.metrics.measure.funnel_tables import Funnel
from usae.evidence.metrics.reconstruction.passes import reconstruction
from usae.evidence.metrics.summary import concept_numbers, nulls_beside
from usae.sae.universal import UniversalSAE

CPU, MODELS = torch.device("cpu"), ("a", "b", "untrained-a")
PAIR = (0, 1)


@pytest.fixture(scope="module")
def measure(module_params):
    return module_params.measure.model_copy(update={"permutations": 7})


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Thirty images of four tokens, in chunks of unlike sizes."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("stores")
    chunks = {"a": 4, "b": 3, "untrained-a": 10}
    return {
        model: store_at(folder / model, rng.normal(size=(30, 4, 6)).astype("float16"), size)
        for model, size in chunks.items()
    }


def sae_of(models, seed):
    torch.manual_seed(seed)
    return UniversalSAE(dict.fromkeys(models, 6), 20, 3).eval()


def held_out(stores, measure, models="ab"):
    return HeldOut(sae_of(models, 0), {model: stores[model] for model in models}, measure, 5, CPU)


def test_the_same_as_by_codes_on_disk(stores, measure, tmp_path):
    opened = held_out(stores, measure)
    found = opened.measured()
    for model, store in opened.stores.items():
        encode_split(opened.sae, model, store, tmp_path / "codes" / model, "usae", None, CPU, 3)
    codes = open_codes(tmp_path / "codes", ("a", "b"))
    expected = concept_statistics(codes, None, measure, 5, None)
    np.testing.assert_array_equal(found.firing.patterns.rows, expected.firing.patterns.rows)
    np.testing.assert_array_equal(found.firing.sums, expected.firing.sums)
    permuted = expected.nulls.counts[IMAGES, PAIR]
    pd.testing.assert_frame_equal(found.evidence, evidence(expected.firing, permuted))
    assert found.nulls == nulls_beside(expected.firing, permuted, found.norms * expected.firing.mean_codes)
    rows = reconstruction(opened.sae, codes, opened.stores, name="usae", split="val").rows(("a", "b"))
    pd.testing.assert_frame_equal(found.reconstruction, pd.DataFrame(rows))


def test_every_second_image_is_counted_as_if_there_were_no_others(stores, measure, make_store):
    whole = held_out(stores, measure)
    odd = {model: make_store(f"odd-{model}", np.asarray(stores[model].take(range(1, 30, 2))), 5) for model in "ab"}
    alone = HeldOut(whole.sae, odd, measure, 5, CPU)
    columns = ["models_alive", "fires_least", "cofires", "cofire_proportion_min"]
    pd.testing.assert_frame_equal(
        whole.counted(np.arange(1, 30, 2), 0.1)[columns], alone.counted(np.arange(15), 0.1)[columns]
    )


def save(folder, models, seed):
    """An SAE, and another one as its start."""
    sae_of(models, seed).save_pretrained(folder)
    sae_of(models, seed + 100).save_pretrained(folder / START)


@pytest.fixture(scope="module")
def contrasts(stores, measure, tmp_path_factory):
    """The run, an untrained control, another seed, and two halves, of which the first is the run itself."""
    models = {
        "usae": ("a", "b"), "seed-1": ("a", "b"), "half-1": ("a", "b"), "half-2": ("a", "b"),
        "untrained-a": ("untrained-a", "b"),
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("runs")
    folders = {run: folder / run for run in models}
    for seed, run in enumerate(models):
        save(folders[run], models[run], 0 if run == "half-1" else seed)
    return Contrasts(folders, stores, {model: np.ones(6) for model in MODELS}, measure, 0, CPU)


@pytest.fixture(scope="module")
def tables(contrasts):
    return contrast_tables(contrasts)


def test_two_worker_processes_give_the_same_tables_to_the_last_bit(contrasts, tables):
    there = contrast_tables(contrasts, "local:2")
    for declared, table in tables.items():
        pd.testing.assert_frame_equal(there[declared], table, check_exact=True)


def test_tables_are_as_declared(tables, tmp_path):
    for declared, table in tables.items():
        write_table(declared, table, tmp_path / f"{declared.name}.parquet")
    assert set(tables) == {CONTROLS, CONTROL_CONCEPTS, STABILITY, SENSITIVITY, REPEATED, START_EXEMPLARS}
    counts = tables[CONTROL_CONCEPTS].groupby(["run", "start"])["concept_id"].count()
    assert len(counts) == 10
    assert (counts == 20).all()


def test_numbers_are_those_of_the_summary_after_training_and_before(contrasts, tables):
    for start in (False, True):
        opened = contrasts.opened("usae", start)
        found = opened.measured()
        norms = contribution_norms(opened.sae, ("a", "b"))
        summary = concept_numbers(found.firing, norms, ("a", "b"))
        own = found.reconstruction.query("source == target")["r2_channel"].mean()
        rows = tables[CONTROLS].query("run == 'usae'").set_index("measure")
        assert rows.index.tolist() == [*MEASURES, "shared", "universal"]
        values = rows["start" if start else "value"]
        for name in ("alive", "firing_entropy_median", "lift_median", "cofire_proportion_mean"):
            assert values[name] == pytest.approx(summary[name])
        assert values["r2_self_mean"] == pytest.approx(own, rel=1e-5)
        assert rows["null"].notna().sum() == sum(null is not None for null in MEASURES.values())


def test_the_best_images_before_the_first_step_are_those_of_the_start(contrasts, tables):
    """The largest code in an image, mean over models, by dense codes."""
    opened = contrasts.opened("usae", True)
    dense = np.zeros((2, 30, 20))
    for chunks in opened.encoded(np.arange(30)):
        for model, chunk in enumerate(chunks):
            for image, indices, values in zip(chunk.images, chunk.indices, chunk.values, strict=True):
                np.maximum.at(dense[model, image], indices.ravel(), values.ravel())
    found = tables[START_EXEMPLARS]
    assert set(found["concept_id"]) == set(np.flatnonzero(dense.any(axis=(0, 1))))
    for concept, rows in found.groupby("concept_id"):
        best = dense.mean(axis=0)[:, concept]
        assert rows["rank"].tolist() == list(range(min(12, (best > 0).sum())))
        np.testing.assert_allclose(rows["code"], np.sort(best)[::-1][: len(rows)], rtol=1e-6)
        np.testing.assert_allclose(best[rows["image"]], rows["code"], rtol=1e-6)


def test_what_training_adds_lies_within_its_interval(tables):
    rows = tables[CONTROLS].query("run == 'usae'").set_index("measure")
    np.testing.assert_allclose(rows["adds"], rows["value"] - rows["start"])
    resampled = rows.loc[["r2_self_mean", "r2_cross_mean", "cofire_proportion_min_median", "shared"]]
    assert (resampled["adds_low"] <= resampled["adds"]).all()
    assert (resampled["adds"] <= resampled["adds_high"]).all()
    assert resampled.loc["r2_self_mean", "adds_low"] < resampled.loc["r2_self_mean", "adds_high"]
    assert rows["adds_low"].notna().sum() == 5


def test_the_interval_is_of_the_difference_on_the_same_resamples(contrasts, tables):
    after, before = (contrasts.opened("usae", start).measured().draws for start in (False, True))
    row = tables[CONTROLS].query("run == 'usae' and measure == 'r2_self_mean'").iloc[0]
    reach = 1.96 * np.std(after.r2_self - before.r2_self, ddof=1)
    assert row["adds_high"] - row["adds"] == pytest.approx(reach)
    assert reach != pytest.approx(1.96 * np.std(after.r2_self, ddof=1), rel=0.01)


def test_what_was_chosen_on_even_images_is_asked_of_odd_ones(contrasts, monkeypatch):
    asked, counted = [], HeldOut.counted

    def noted(held_out, images, threshold):
        asked.append(images.tolist())
        return counted(held_out, images, threshold)

    opened = {False: contrasts.opened("usae", False)}
    concepts = opened[False].counted(np.arange(30), 0.1).assign(run="usae", start=False)
    monkeypatch.setattr(HeldOut, "counted", noted)
    rows = repeated_frame(opened, concepts, 2, Thresholds(0.1))
    assert asked == [list(range(0, 30, 2)), list(range(1, 30, 2))]
    assert rows["chosen_by"].unique().tolist() == ["even", "odd"]


def test_an_sae_comes_back_in_itself_and_not_in_another(tables):
    rows = tables[CONTROLS].query("measure == 'comes_back_share'").set_index("run")
    assert rows.loc["half-1", "value"] == 1
    assert rows.loc["half-1", "start"] == 1
    assert rows.loc[["half-2", "seed-1"], "value"].max() < 0.3
    assert rows.loc["half-1", "null"] < 0.3
    assert "comes_back_share_in_half-2" in tables[CONTROLS].query("run == 'half-1'")["measure"].tolist()


def test_sensitivity_at_the_own_thresholds_is_the_count(tables):
    frame, controls = tables[SENSITIVITY], tables[CONTROLS].query("run == 'usae'").set_index("measure")
    own = frame[
        ((frame["threshold"] == "agreement") & (frame["value"] == 0.1))
        | ((frame["threshold"] == "support") & (frame["value"] == 20))
        | ((frame["threshold"] == "matched") & (frame["value"] == 0.7))
        | ((frame["threshold"] == "bar") & (frame["value"] == 0.95))
    ]
    assert len(own) == 8
    for start, column in ((False, "value"), (True, "start")):
        rows = own[own["start"] == start]
        assert (rows["shared"] == controls.loc["shared", column]).all()
        assert (rows["universal"] == controls.loc["universal", column]).all()
    agreement = frame[(frame["threshold"] == "agreement") & ~frame["start"]].sort_values("value")
    assert agreement["shared"].is_monotonic_decreasing


def test_a_twin_stands_for_the_run_beside_the_controls(contrasts, tables, tmp_path):
    """A run that is no half's like, and its twin, which is what the first half is."""
    save(tmp_path / "usae", ("a", "b"), 50)
    twin = {"usae": tmp_path / "usae", "twin": contrasts.folders["usae"]}
    found = contrast_tables(replace(contrasts, folders={**contrasts.folders, **twin}))
    for table in (SENSITIVITY, REPEATED):
        pd.testing.assert_frame_equal(found[table], tables[table])
    pairs = found[STABILITY][["run", "against"]].drop_duplicates().itertuples(index=False, name=None)
    again = ("seed-1", "half-1", "half-2")
    assert set(pairs) == {*((run, each) for run in ("usae", "twin") for each in again), ("half-1", "half-2")}
    shares = found[CONTROLS].set_index(["run", "measure"])["value"]
    assert shares["half-1", "comes_back_share"] == 1
    assert shares["usae", "comes_back_share_in_half-1"] < 0.3
    before = tables[CONTROLS].query("run == 'usae'").set_index("measure")["value"]
    pd.testing.assert_series_equal(shares["twin"][before.index], before)
    funnel = Funnel.of(found[CONTROL_CONCEPTS], found[STABILITY], 2, 0.1)
    assert funnel.numbers["universal/twin"] == shares["twin", "universal"]
    assert funnel.numbers["universal"] == shares["usae", "universal"]


def test_what_repeats_is_part_of_what_was_chosen(tables):
    frame = tables[REPEATED]
    assert set(zip(frame["start"], frame["chosen_by"], strict=True)) == {
        (start, images) for start in (False, True) for images in ("even", "odd")
    }
    assert (frame["repeated"] <= frame["concepts"]).all()
    both = frame.groupby(["start", "step"])["repeated"].nunique()
    assert (both == 1).all()  # in whichever order the halves choose


def test_no_more_saes_at_once_than_memory_has_room_for(contrasts, tables, monkeypatch, caplog):
    most = 4 * 4 * 8192 * 20 + 2 * 2 * 30 * 20 * (8 * 2 + 4)  # four blocks of pre-codes; every pair, twice a model
    monkeypatch.setattr(memory, "free_memory", lambda: 2 * most)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with caplog.at_level(logging.INFO, "usae"):
            found = contrast_tables(contrasts)
    finally:
        torch.set_num_threads(threads)
    assert caplog.messages == ["2 at once in place of 3: 2.67MB each, 5.34MB free"] * 2
    for declared, table in tables.items():
        pd.testing.assert_frame_equal(found[declared], table, check_exact=True)


def test_a_model_alone_has_no_null_and_nothing_to_come_back(stores, measure, tmp_path):
    save(tmp_path / "usae", "a", 0)
    alone = Contrasts({"usae": tmp_path / "usae"}, stores, {"a": np.ones(6)}, measure, 0, CPU)
    tables = contrast_tables(alone)
    for declared, table in tables.items():
        write_table(declared, table, tmp_path / f"{declared.name}.parquet")
    assert (tables[CONTROL_CONCEPTS]["null_mean"] == 0).all()
    assert tables[STABILITY].empty
