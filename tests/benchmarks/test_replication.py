"""The replication's grid: what each row compares, and how the tables read."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import replication_table
from benchmarks.replication import HELD_OUT, TRAINING, Material, firing, named, results, trained
from benchmarks.replication_maximised import agreed, rows
from benchmarks.replication_table import KEYS, append, known, markdown, rows_so_far
from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.firing.counts import FiringCounts
from usae.showing.maximisation.targets import Maximisation, MaximisationTarget, MaximisedTarget, PaintedTarget

OWN, CROSS = ["r2_a_a", "r2_b_b"], ["r2_a_b", "r2_b_a"]


@pytest.fixture
def material(world, recipe, params):
    """30 training images and 10 held-out ones, of the two models a and b."""
    manifests, data = world
    seen, held_out = data.part(np.arange(30)), data.part(np.arange(30, 40))
    params = params.model_copy(update={"train": recipe, "models": ("a", "b")})
    return Material(params, manifests, seen, {HELD_OUT: held_out, TRAINING: seen.part(np.arange(0, 30, 3))})


def fired(*patterns):
    """Counts of two models over tokens on which each concept fires in neither, one or both (0, 1, 2, 3)."""
    counts = FiringCounts(2, len(patterns[0]), 0.0)
    for pattern in patterns:
        codes = [[concept for concept, bits in enumerate(pattern) if bits & model] for model in (1, 2)]
        chunks = [np.array(model, np.uint16).reshape(1, 1, -1) for model in codes]
        counts.update([CodeChunk(np.array([0]), chunk, np.ones(chunk.shape, np.float32)) for chunk in chunks])
    return counts


def test_a_row_for_every_sae_and_set_of_images(material):
    table, sae = results(material, 3, 24, 40)
    table = pd.DataFrame(table).set_index(["images", "run"])
    runs = ["usae", "shuffled", "alone"]
    assert list(table.index) == [
        *((HELD_OUT, run) for run in [*runs, "linear", "linear, rank k"]),
        *((TRAINING, run) for run in runs),
    ]
    assert (sae.concepts, sae.k, sae.models) == (24, 3, ("a", "b"))
    assert table.loc[HELD_OUT].loc[["usae", "shuffled"], [*OWN, *CROSS]].notna().all(axis=None)
    assert table.loc[(HELD_OUT, "alone"), CROSS].isna().all()
    assert (table.loc[(HELD_OUT, "usae"), CROSS] > table.loc[(HELD_OUT, "shuffled"), CROSS]).all()


def test_all_saes_have_as_many_steps_and_alone_starts_elsewhere(material):
    saes, seconds = trained(material, 3, 24, 0)
    assert list(saes) == ["usae", "shuffled", "independent-a", "independent-b"]
    weights = [saes[name].part("a").dictionary.weight for name in ("usae", "shuffled", "independent-a")]
    assert (weights[0] == weights[1]).all()
    assert not (weights[0] == weights[2]).all()
    assert seconds > 0


def test_r2_has_the_names_of_source_and_target():
    assert named(np.array([[1.0, 2.0], [3.0, 4.0]]), ("a", "b")) == {
        "r2_a_a": 1.0,
        "r2_a_b": 2.0,
        "r2_b_a": 3.0,
        "r2_b_b": 4.0,
    }


def test_concepts_are_counted_by_the_evenness_of_their_fires():
    counts = fired((3, 1, 2, 0), (1, 1, 1, 0), (2, 1, 1, 0), (0, 1, 1, 0))
    numbers = firing(counts)
    assert (numbers["alive"], numbers["one_model"], numbers["mostly_both"], numbers["both"]) == (3, 1, 2, 1)
    assert numbers["cofire_proportion"] == np.mean([0.5, 0.5, 0, 0, 0])  # no proportion where a model never fires
    assert numbers["codes"] == 1.5


def test_pictures_are_made_of_the_concepts_that_agree_among_those_that_fire_often():
    counts = fired(*[(3, 3, 1)] * 15, *[(3, 0, 2)] * 10)
    assert agreed(counts, 2) == [0, 1]
    assert agreed(fired(*[(3, 1, 1)] * 10, *[(2, 3, 3)] * 25), 1) == [1]


def test_a_curve_has_its_ends_and_what_the_finished_picture_is_to_the_models():
    curve = np.arange(25, dtype=np.float32)
    made = MaximisedTarget(
        painted=PaintedTarget(np.zeros((2, 1, 4, 4, 4), np.uint8), np.stack([curve, -curve])[:, None]),
        scores=np.array(
            [[[[3.0]], [[1.0]]], [[[0.0]], [[2.0]]]], np.float32
        ),  # (scoring, made for, start, target)
        maps=np.zeros((2, 2, 1, 1), np.float32),
        mean_tokens=np.ones((2, 1, 3), np.float32),
    )
    real = {model: np.array([[-1.0], [1.0]], np.float32) for model in "ab"}
    maximisation = Maximisation([MaximisationTarget("concept", 1)], [made], real)
    table = pd.DataFrame(rows(maximisation, np.array([0.0, 0.5]))).set_index(["model", "step"])
    assert list(table.loc["a"].index) == [0, 10, 20, 24]
    assert list(table.loc["b", "score"]) == [0, -10, -20, -24]
    assert list(table.loc["a", "z_own"].unique()) == [3.0]
    assert list(table.loc["a", "z_others"].unique()) == [0.0]
    assert list(table.loc["b", "z_others"].unique()) == [1.0]
    assert (table["entropy"] == 0.5).all()


def test_the_file_keeps_rows_and_the_table_has_the_tax(material, tmp_path, monkeypatch):
    monkeypatch.setattr(replication_table, "TABLE", tmp_path / "replication.csv")
    table, _ = results(material, 3, 24, 8)
    assert not known(rows_so_far(), ["world", material.params.seed, 8, 3, 24])
    append({"data": "world", **row} for row in table)
    assert known(rows_so_far(), ["world", material.params.seed, 8, 3, 24])
    frame = pd.DataFrame(table).set_index(["images", "run"]).loc[HELD_OUT]
    tax = frame.loc["alone", OWN] - frame.loc["usae", OWN]
    lines = markdown(rows_so_far()).splitlines()
    assert lines[0] == "**world, 8 steps**"
    assert [line.count("|") for line in lines[2:]] == [19] * 4
    assert f"| {' / '.join(f'{value:.2f}' for value in tax)} |" in lines[4]
    assert lines[5].startswith(f"| 3 | 24 | {material.params.seed} | training |")


def test_every_row_of_the_table_is_printed_and_none_is_there_twice():
    found = rows_so_far()
    assert not found.duplicated([*KEYS, "images", "run"]).any()
    printed = [line for line in markdown(found).splitlines() if "| held out |" in line]
    assert len(printed) == len(found.drop_duplicates(KEYS))
