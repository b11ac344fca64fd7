"""Measuring controls on the fly gives what encoding, keeping and measuring gives."""

import numpy as np
import pandas as pd
import pytest
import torch

from usae.common.tables import write_table
from usae.evidence.codes.encoding import encode_split
from usae.evidence.codes.store import open_codes
from usae.evidence.metrics.contrast.contrast import MEASURES, contrast, contrast_tables, excess
from usae.evidence.metrics.contrast.tables import CONTROL_CONCEPTS, CONTROLS, STABILITY
from usae.evidence.metrics.firing.nulls import IMAGES
from usae.evidence.metrics.measure.counting import concept_statistics
from usae.evidence.metrics.reconstruction.passes import reconstruction
from usae.evidence.metrics.summary import concept_numbers
from usae.sae.universal import UniversalSAE

CPU, MODELS = torch.device("cpu"), ("a", "b", "untrained-a")
PAIR = (0, 1)


@pytest.fixture
def measure(params):
    return params.measure.model_copy(update={"permutations": 7})


@pytest.fixture
def stores(make_store):
    """Ten images of four tokens, in chunks of unlike sizes."""
    rng = np.random.default_rng(0)
    chunks = {"a": 4, "b": 3, "untrained-a": 10}
    return {
        model: make_store(model, rng.normal(size=(10, 4, 6)).astype("float16"), size)
        for model, size in chunks.items()
    }


def sae_of(models, seed):
    torch.manual_seed(seed)
    return UniversalSAE(dict.fromkeys(models, 6), 20, 3).eval()


def test_the_same_as_by_codes_on_disk(stores, measure, tmp_path):
    sae, chosen = sae_of("ab", 0), {model: stores[model] for model in "ab"}
    found = contrast(sae, chosen, measure, 5, CPU)
    for model, store in chosen.items():
        encode_split(sae, model, store, tmp_path / "codes" / model, "usae", None, CPU, 3)
    codes = open_codes(tmp_path / "codes", ("a", "b"))
    expected = concept_statistics(codes, None, measure, 5, None)
    np.testing.assert_array_equal(found.firing.patterns, expected.firing.patterns)
    np.testing.assert_array_equal(found.firing.sums, expected.firing.sums)
    np.testing.assert_array_equal(found.permuted, expected.nulls.counts[IMAGES, PAIR])
    rows = reconstruction(sae, codes, chosen, name="usae", split="val").rows(("a", "b"))
    pd.testing.assert_frame_equal(found.reconstruction, pd.DataFrame(rows))


def test_numbers_are_those_of_the_summary(stores, measure):
    found = contrast(sae_of("ab", 0), {model: stores[model] for model in "ab"}, measure, 5, CPU)
    numbers = found.numbers("k-3").set_index("measure")
    summary = concept_numbers(found.firing, np.ones_like(found.energies), ("a", "b"))
    assert numbers.index.tolist() == list(MEASURES)
    assert set(numbers["run"]) == {"k-3"}
    for name in ("alive", "firing_entropy_median", "lift_median", "cofire_proportion_mean"):
        assert numbers.loc[name, "value"] == pytest.approx(summary[name])
    own = found.reconstruction.query("source == target")["r2_channel"].mean()
    assert numbers.loc["r2_self_mean", "value"] == pytest.approx(own, rel=1e-5)
    assert numbers["null"].notna().sum() == sum(null is not None for null in MEASURES.values())


def test_tables_of_the_run_and_its_controls(stores, measure, tmp_path):
    models = {"usae": ("a", "b"), "seed-1": ("a", "b"), "untrained-one": ("untrained-a", "b")}
    folders = {run: tmp_path / run for run in models}
    for seed, run in enumerate(models):
        sae_of(models[run], seed).save_pretrained(folders[run])
    tables = contrast_tables(folders, stores, measure, 0, CPU)
    for declared, table in tables.items():
        write_table(declared, table, tmp_path / f"{declared.name}.parquet")
    assert tables[CONTROL_CONCEPTS].groupby("run")["concept_id"].count().to_dict() == dict.fromkeys(models, 20)
    assert set(tables[STABILITY]["run"]) == {"seed-1", "gaussian"}
    stable = tables[CONTROLS].query("measure == 'stability_mean'")
    assert stable["run"].tolist() == ["seed-1"]
    again = tables[STABILITY].query("run == 'seed-1'")["cosine"].clip(0, 1).mean()
    assert stable["value"].item() == pytest.approx(again)


def test_a_model_alone_has_no_null(stores, measure, tmp_path):
    sae_of("a", 0).save_pretrained(tmp_path / "usae")
    tables = contrast_tables({"usae": tmp_path / "usae"}, stores, measure, 0, CPU)
    for declared, table in tables.items():
        write_table(declared, table, tmp_path / f"{declared.name}.parquet")
    assert (tables[CONTROL_CONCEPTS]["null_mean"] == 0).all()


def test_excess_is_0_as_re_paired_1_as_often_as_the_rates_allow():
    fires = np.array([[10, 10, 10, 4], [20, 30, 10, 4]])
    found = excess(np.array([10, 3, 1, 4]), np.array([2.0, 3.0, 4.0, 4.0]), fires)
    np.testing.assert_allclose(found, [1, 0, -0.5, np.nan])
