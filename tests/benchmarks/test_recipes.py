"""The recipe study: what its learning rate is chosen by, and how far each recipe comes in its schedule."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from benchmarks import recipes_table
from benchmarks.recipes import LITERAL, OFFICIAL, Material, loader_of, parts, result, schedule_of
from benchmarks.recipes_table import append, chosen, known, markdown, rates_of, rows_so_far
from usae.training.loop.universal import draw_source

CELL = ("world", 8, "default")


@pytest.fixture
def material(world, recipe):
    """30 training images and 10 held-out ones."""
    manifests, data = world
    seen, choice = parts(data.part(np.arange(30)))
    return Material(manifests, recipe, 3, 0.1, seen, choice, data.part(np.arange(30, 40)))


def rows(material, name="default", rates=(1e-4, 1e-2), steps=8, seed=0):
    found = [result(material, name, steps, seed, rate) for rate in rates]
    return pd.DataFrame(found).assign(data="world")


def test_every_tenth_training_image_is_kept_for_the_choice(material):
    assert list(material.choice.members) == [9, 19, 29]
    assert sorted({*material.seen.members, *material.choice.members}) == list(range(30))
    assert material.seen.images == 27


def test_other_held_out_images_choose_the_same_rate(material):
    other = Material(
        material.manifests,
        material.train,
        material.k,
        material.threshold,
        material.seen,
        material.choice,
        material.seen,
    )
    table, changed = rows(material), rows(other)
    same = [column for column in table if column.startswith("choice_")]
    assert len(same) == 3
    pd.testing.assert_frame_equal(table[same], changed[same])
    assert (table["r2_all"] != changed["r2_all"]).all()
    assert chosen(table) == chosen(changed)


def test_the_choice_goes_by_its_own_score_and_the_first_seed():
    table = pd.DataFrame(
        {
            "seed": [0, 0, 1],
            "learning_rate": [0.1, 0.2, 0.1],
            "choice_r2_all": [0.1, 0.2, 0.9],
            "r2_all": [0.9, 0.0, 0.9],
        }
    )
    assert chosen(table) == 0.2


@pytest.mark.parametrize("steps", [8, 24])
def test_updates_are_those_of_the_drawn_sources(material, steps):
    drawn = Counter(draw_source(0, step, ("a", "b")) for step in range(steps))
    own = f"{drawn['a']}/{drawn['b']}"
    official, default = (result(material, name, steps, 0, 1e-3) for name in ("official", "default"))
    assert (official["encoder_updates"], official["dictionary_updates"]) == (own, own)
    assert (default["encoder_updates"], default["dictionary_updates"]) == (own, f"{steps}/{steps}")


def test_warm_up_is_an_eighth_of_what_the_rate_follows(material):
    models, official = ("a", "b"), material.train.model_copy(update=OFFICIAL)
    for steps in (16, 160):
        common = schedule_of("default", material.train, steps, 0, models, 4)
        own = schedule_of("official", official, steps, 0, models, 4)
        literal = schedule_of(LITERAL, official, steps, 0, models, 4)
        drawn = Counter(draw_source(0, step, models) for step in range(steps))
        assert (common.warmup, common.steps) == (steps // 8, steps)
        assert (own.warmup, own.steps) == (round(max(drawn.values()) / 8), max(drawn.values()))
        assert (literal.warmup, literal.steps) == (4, steps)
    assert schedule_of("default", material.train, 1, 0, models, 4).warmup == 1


def test_the_rate_falls_to_its_end_with_the_run_unless_the_schedule_is_literal(material):
    low = material.train.final_learning_rate
    ends = {name: result(material, name, 64, 0, 1e-3)["last_rate"] for name in ("default", "official", LITERAL)}
    assert low < ends["default"] < 0.01 * 1e-3
    assert low < ends["official"] < 0.05 * 1e-3
    assert ends[LITERAL] > 0.3 * 1e-3


def test_a_seed_has_its_own_order_of_images(material):
    images = [next(loader_of(material, material.train, seed).batches(0, 1)).images for seed in (0, 0, 1)]
    assert list(images[0]) == list(images[1])
    assert list(images[0]) != list(images[2])


def test_no_step_leaves_the_start_calibrated(material):
    row = result(material, "default", 0, 0, 0.0)
    assert row["encoder_updates"] == row["dictionary_updates"] == "0/0"
    assert np.isfinite(row["r2_all"])


def test_further_seeds_and_longer_runs_take_the_chosen_rate(material):
    table = rows(material)
    best, rates = chosen(table), [1e-4, 1e-2]
    assert rates_of(table, CELL, 0, rates, None) == rates
    assert rates_of(table, CELL, 1, rates, None) == [best]
    assert rates_of(table, ("world", 64, "default"), 0, rates, 8) == [best]
    assert rates_of(table, ("world", 0, "default"), 0, rates, None) == [0.0]


def test_the_file_keeps_rows_and_the_table_marks_the_chosen_rate(material, tmp_path, monkeypatch):
    monkeypatch.setattr(recipes_table, "TABLE", tmp_path / "recipes.csv")
    start, table = rows(material, rates=(0.0,), steps=0), rows(material)
    for row in [*start.to_dict("records"), *table.to_dict("records")]:
        key = ["world", row["steps"], "default", 0, row["learning_rate"]]
        assert not known(rows_so_far(), key)
        append(row)
        assert known(rows_so_far(), key)
    text = markdown(rows_so_far())
    best = table.set_index("learning_rate")["choice_r2_all"][chosen(table)]
    assert text.count("**") == 8  # three headings, and one rate
    assert f"**{best:.3f}**" in text
    assert f"| 0 | {start['r2_self'][0]:.3f} / {start['r2_cross'][0]:.3f} |" in text
