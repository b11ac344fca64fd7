import numpy as np
import pandas as pd
import pytest

from usae.common.numerics.numbers import rounded
from usae.evidence.metrics.firing.counts import FiringCounts, unique_to
from usae.evidence.metrics.labels.labels import absent_labels
from usae.evidence.metrics.measure import curves
from usae.evidence.metrics.measure.frames import (
    concept_models_frame,
    concept_pairs_frame,
    concepts_frame,
    patterns_frame,
)
from usae.evidence.metrics.summary import concept_numbers, reconstruction_numbers

MODELS = ("a", "b", "c")


@pytest.fixture
def firing(chunks):
    counts = FiringCounts(3, 12, 0.1)
    for part in chunks(3, images=(30,)):
        counts.update(part)
    return counts


@pytest.fixture
def frames(firing):
    norms = np.ones((3, 12))
    return concepts_frame(firing, norms, absent_labels(12), MODELS), concept_models_frame(firing, norms, MODELS)


def test_patterns_add_up_to_the_fires_of_each_model(firing, frames):
    patterns = patterns_frame(firing, MODELS)
    wide = frames[1].pivot(index="concept_id", columns="model", values="fires")
    for bit, model in enumerate(MODELS):
        with_model = patterns[(patterns["pattern"].to_numpy() >> bit & 1) == 1]
        assert with_model["models"].str.split("+").map(lambda names, m=model: m in names).all()
        sums = with_model.groupby("concept_id")["fires"].sum().reindex(wide.index, fill_value=0)
        assert (sums == wide[model]).all()


def test_concept_table_follows_from_the_model_table(frames):
    concepts, per_model = frames
    grouped = per_model.groupby("concept_id")
    np.testing.assert_allclose(concepts["energy"], grouped["energy"].mean(), rtol=1e-12)
    proportion = grouped["cofire_proportion"].min()
    np.testing.assert_allclose(concepts["cofire_proportion_min"], proportion)
    assert concepts["models_alive"].tolist() == [3] * 11 + [0]
    assert concepts["alive"].tolist() == [True] * 11 + [False]


def test_pairs_follow_from_the_patterns(firing):
    pairs = concept_pairs_frame(firing, MODELS)
    assert len(pairs) == 12 * 6
    assert pairs["concept_id"].is_monotonic_increasing
    wide = patterns_frame(firing, MODELS).assign(names=lambda frame: frame["models"].str.split("+"))
    for row in pairs[pairs["concept_id"] < 11].itertuples():
        own = wide[(wide["concept_id"] == row.concept_id) & wide["names"].map(lambda n, m=row.model: m in n)]
        both = own.loc[own["names"].map(lambda n, m=row.other: m in n), "fires"].sum()
        assert row.cofires == both
        assert row.cofire_proportion == pytest.approx(both / own["fires"].sum())
    swapped = pairs.merge(
        pairs, left_on=["concept_id", "model", "other"], right_on=["concept_id", "other", "model"]
    )
    np.testing.assert_allclose(swapped["lift_x"], swapped["lift_y"])
    alive = pairs[pairs["concept_id"] < 11]
    assert (alive["cofire_proportion"] <= alive["cofire_ceiling"] + 1e-12).all()
    counts = FiringCounts(1, 12, 0.1)
    assert concept_pairs_frame(counts, ("a",)).empty


def test_leave_one_out_is_of_the_tokens_on_which_the_others_fire(firing, frames):
    rows = frames[1].set_index(["concept_id", "model"])
    assert rows.loc[(3, "b"), "joins_others"] == firing.cofires[3] / firing.together([0, 2])[3]
    assert np.isnan(rows.loc[(11, "b"), "joins_others"])


def test_low_entropy_names_the_model_that_a_concept_is_unique_to(firing, frames):
    fires = np.array([[90, 0, 5, 0], [1, 0, 5, 3], [0, 0, 4, 0]])
    assert unique_to(fires, MODELS).tolist() == ["a", None, None, "b"]
    assert frames[0]["unique_to"].isna().all()
    assert concept_numbers(firing, np.ones((3, 12)), MODELS)["unique/a"] == 0


def test_numbers_are_means_over_the_concepts_with_most_energy(firing, frames):
    numbers = concept_numbers(firing, np.ones((3, 12)), MODELS)
    assert numbers["cofire_proportion_concepts"] == 11
    per_model = frames[1].query("concept_id < 11").groupby("model")["cofire_proportion"].mean()
    for model in MODELS:
        assert numbers[f"cofire_proportion/{model}"] == pytest.approx(per_model[model], rel=1e-5)
    assert numbers["cofire_proportion_mean"] == pytest.approx(per_model.mean(), rel=1e-5)
    assert numbers["dead_share/a"] == pytest.approx(1 / 12, rel=1e-5)
    assert numbers["importance_frequent_r"] is None
    assert numbers["tokens"] == 270


def test_reconstruction_numbers():
    rows = [
        ("usae", "a", "a", "val", 0.6), ("usae", "a", "b", "val", 0.2),
        ("usae", "b", "a", "val", 0.4), ("usae", "b", "b", "val", 0.8),
        ("independent", "a", "a", "val", 0.7), ("independent", "b", "b", "val", 0.8),
        ("usae", "a", "a", "train", 0.9),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["sae", "source", "target", "split", "r2_channel"])
    numbers = reconstruction_numbers(table.assign(r2_scalar=table["r2_channel"] + 0.1))
    assert numbers["r2_self_mean"] == 0.7
    assert numbers["r2_cross_mean"] == 0.3
    assert numbers["r2_scalar_self_mean"] == pytest.approx(0.8)
    assert numbers["r2/a/b"] == 0.2
    assert numbers["r2_independent/a"] == 0.7
    assert numbers["alignment_tax_mean"] == 0.05
    assert numbers["train_r2_self_mean"] == 0.9
    assert numbers["train_r2_cross_mean"] is None
    assert "r2_ridge_cross_mean" not in numbers
    twin = [("twin", "a", "a", "val", 0.5), ("twin", "b", "b", "val", 0.6)]
    less = pd.concat([table, pd.DataFrame(twin, columns=table.columns)]).assign(r2_scalar=0.0)
    assert reconstruction_numbers(less)["alignment_tax_mean"] == 0.2  # of what was trained as little
    assert reconstruction_numbers(less)["r2_self_mean"] == 0.7
    ceiling = table.assign(
        r2_scalar=0.0,
        r2_ridge=[1, 0.5, 0.7, 1, 1, 1, np.nan],
        r2_rank_k=[0.9, 0.3, 0.5, 0.9, 0.9, 0.9, np.nan],
        r2_ridge_others=[0.8, 0.6, 0.8, 0.6, 0.8, 0.6, np.nan],
    )
    numbers = reconstruction_numbers(ceiling)
    assert numbers["r2_ridge_cross_mean"] == 0.6
    assert numbers["r2_rank_k_cross_mean"] == 0.4
    assert numbers["r2_ridge_others_mean"] == 0.7
    assert numbers["r2_of_ridge_cross"] == 0.5


def test_numbers_keep_six_digits_and_nan_becomes_null():
    assert rounded(0.123456789) == 0.123457
    assert rounded(float("nan")) is None
    assert rounded(1234567) == 1234567


def test_curves_cover_all_concepts(frames):
    concepts, per_model = frames
    nothing = pd.DataFrame(columns=["run", "start", "firing_entropy"])
    entropy = curves.entropy_histogram(concepts, nothing)
    assert len(entropy) == 30
    assert entropy["concepts"].sum() == 11
    cofire = curves.cofire_curve(concepts, per_model, MODELS)
    assert cofire.groupby("model")["rank"].max().tolist() == [11, 11, 11]
    importance = curves.importance_curve(concepts)
    assert importance["concepts"].sum() == (concepts["cofires"] > 0).sum()


def test_entropy_stands_beside_that_of_re_paired_images(frames):
    evidence = pd.DataFrame(
        {
            "run": ["usae", *["shuffled"] * 3],
            "start": [False, False, False, True],
            "firing_entropy": [0.2, 0.99, np.nan, 0.5],
        }
    )
    entropy = curves.entropy_histogram(frames[0], evidence)
    assert entropy.groupby("run", sort=False)["concepts"].sum().to_dict() == {"usae": 11, "shuffled": 1}
    assert entropy.query("run == 'shuffled'")["concepts"].iloc[-1] == 1
    beside = pd.concat([evidence, evidence[:1].assign(run="twin")])
    assert curves.entropy_histogram(frames[0], beside)["run"].unique().tolist() == ["usae", "twin", "shuffled"]


def test_funnel_steps_keep_their_order_in_an_alphabetic_plot():
    runs, steps = ["usae", "usae", "usae", "b"], ["alive", "significant", "alive", "alive"]
    table = pd.DataFrame({"run": runs, "start": [False, False, True, False], "step": steps, "concepts": 3})
    assert curves.funnel_steps(table)["passes"].tolist() == [
        "usae 1. alive", "usae 2. significant", "usae before its first step 1. alive", "b 1. alive",
    ]  # fmt: skip


def test_stability_curves_are_shares_of_the_judged():
    rows = pd.DataFrame({"correlation": [0.95, 0.55, 0.05, np.nan]})
    table = pd.concat([rows.assign(run="usae", against="half-1", start=start) for start in (False, True)])
    found = curves.stability_curves(table)
    assert found["match"].unique().tolist() == ["usae in half-1", "usae in half-1, before the first step"]
    shares = found[found["match"] == "usae in half-1"].set_index("threshold")["share"]
    assert shares[[0.0, 0.5, 0.9]].tolist() == pytest.approx([1, 2 / 3, 1 / 3])
    assert curves.stability_curves(table.head(0)).empty


def test_importance_curve_without_any_cofire_is_empty(frames):
    assert curves.importance_curve(frames[0].assign(cofires=0)).empty
