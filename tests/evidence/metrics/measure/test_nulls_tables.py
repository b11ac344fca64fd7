import numpy as np
import pandas as pd
import pytest

from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.dictionaries.consistency import consistency_frame
from usae.evidence.metrics.firing.counts import (
    FiringCounts,
    cofire_proportion,
    cofire_proportion_min,
    energy,
    lift,
)
from usae.evidence.metrics.firing.evidence import SUPPORT
from usae.evidence.metrics.firing.importance import log_fit
from usae.evidence.metrics.firing.nulls import CofireNulls
from usae.evidence.metrics.measure.curves import consistency_curves, null_counts
from usae.evidence.metrics.measure.nulls_tables import (
    consistency_numbers,
    null_numbers,
    nulls_frame,
    significant_concepts,
    top_sets,
)

MODELS, CONCEPTS, SHARED = ("a", "b", "c"), 24, 8
EVERYONE = "a+b+c"


@pytest.fixture(scope="module")
def measured():
    """Eight concepts with a common cause, fifteen without, one dead; rates differ a hundredfold."""
    rng = np.random.default_rng(0)
    rates = 10 ** rng.uniform(-2, -0.3, CONCEPTS)
    cause = rng.random((1, 90, 16, CONCEPTS)) < rates
    fires = np.broadcast_to(cause, (3, 90, 16, CONCEPTS)) & (rng.random((3, 90, 16, CONCEPTS)) < 0.9)
    alone = rng.random((3, 90, 16, CONCEPTS)) < rates
    fires = np.where(np.arange(CONCEPTS) < SHARED, fires, alone)
    fires[..., -1] = False
    indices = np.broadcast_to(np.arange(CONCEPTS, dtype=np.uint16), fires.shape[1:])
    chunks = [CodeChunk(np.arange(90), indices, model.astype(np.float32)) for model in fires]
    firing, nulls = FiringCounts(3, CONCEPTS, 0.1), CofireNulls(3, CONCEPTS, 0.1, 99, 0, 90)
    firing.update(chunks)
    nulls.update(chunks)
    nulls.finish()
    return firing, nulls, nulls_frame(firing, nulls, MODELS)


def test_the_frame_tests_what_fires_in_the_whole_group(measured):
    firing, _, table = measured
    assert set(table["models"]) == {"a+b", "a+c", "b+c", EVERYONE}
    assert set(table["null"]) == {"images", "tokens", "joint"}
    for (group, null), rows in table.groupby(["models", "null"]):
        members = [MODELS.index(name) for name in group.split("+")]
        often = (firing.fires[members] >= SUPPORT).all(axis=0)
        assert rows["concept_id"].tolist() == np.flatnonzero(often).tolist()
        assert set(rows["moved"]) <= ({"b+c"} if null == "joint" else set(group.split("+")[len(members) == 2 :]))
        np.testing.assert_array_equal(rows["cofires"], firing.together(members)[rows["concept_id"]])
    sure = significant_concepts(table, MODELS, CONCEPTS)
    assert sure[:SHARED].fillna(True).all()
    assert sure[SHARED:-1].fillna(False).sum() <= 1
    assert pd.isna(sure.iloc[-1])


def test_numbers_of_the_run_beside_what_re_paired_images_give(measured):
    firing, nulls, table = measured
    energies = energy(firing.mean_codes)
    numbers = null_numbers(firing, nulls, table, energies, MODELS)
    mean = nulls.counts["images", (0, 1, 2)].mean(axis=1).max(axis=0)
    alive = firing.fires.any(axis=0)
    expected = np.nan_to_num(cofire_proportion(mean, firing.fires)[:, alive]).mean()
    assert numbers["cofire_proportion_null_mean"] == pytest.approx(expected, rel=1e-5)
    assert numbers["lift_null_median"] == pytest.approx(
        np.nanmedian(lift(mean, firing.fires, firing.tokens)), rel=1e-5
    )
    assert numbers["cofire_proportion_min_null_median"] == pytest.approx(
        np.nanmedian(cofire_proportion_min(mean, firing.fires)), rel=1e-5
    )
    rows = table.query("null == 'images' and models == @EVERYONE")
    assert numbers[f"significant/images/{EVERYONE}"] == rows["significant"].sum()
    assert numbers[f"tested/images/{EVERYONE}"] == len(rows)
    assert numbers["significant_share"] == pytest.approx(rows["significant"].sum() / alive.sum(), rel=1e-5)
    assert abs(numbers["position_share_median"]) < 0.05


def test_energy_correlates_with_co_fires_that_are_accidents(measured):
    """Mostly mechanical: busy concepts have energy, and meet."""
    firing, nulls, table = measured
    energies = energy(firing.mean_codes)
    numbers = null_numbers(firing, nulls, table, energies, MODELS)
    own = log_fit(firing.cofires, energies.mean(axis=0)).r
    assert numbers["importance_null_r"] > 0.75
    assert own < numbers["importance_null_r"]


def test_one_model_has_no_nulls():
    firing, nulls = FiringCounts(1, 4, 0.1), CofireNulls(1, 4, 0.1, 5, 0, 2)
    chunk = CodeChunk(np.arange(2), np.zeros((2, 3, 1), np.uint16), np.ones((2, 3, 1), np.float32))
    firing.update([chunk])
    nulls.update([chunk])
    nulls.finish()
    table = nulls_frame(firing, nulls, ["a"])
    assert table.empty
    assert null_numbers(firing, nulls, table, np.ones((1, 4)), ["a"]) == {}
    assert significant_concepts(table, ["a"], 4).isna().all()
    assert null_counts(table).empty


def test_top_sets_are_a_sixth_and_at_most_a_thousand():
    concepts = pd.DataFrame({"concept_id": np.arange(60), "cofires": np.arange(60)[::-1], "lift": np.arange(60.0)})
    sets = top_sets(concepts.assign(significant=pd.array([True] * 30 + [None] * 30, "boolean")))
    assert len(sets["all"]) == 60
    assert sets["top_cofiring"].tolist() == list(range(10))
    assert sets["top_lift"].tolist() == list(range(20, 30))
    many = pd.DataFrame({"concept_id": np.arange(9000), "cofires": 1, "lift": 1.0, "significant": True})
    assert len(top_sets(many)["top_cofiring"]) == 1000


def test_consistency_numbers_and_curves():
    rows = np.random.default_rng(1).standard_normal((30, 8))
    table = consistency_frame(
        {"usae": {"a": rows, "b": rows}, "start": {"a": -rows, "b": rows}},
        {"a": rows, "b": np.roll(rows, 1, axis=0)},
        0,
    )
    sets = {"all": np.arange(30), "top_lift": np.array([], dtype=int)}
    numbers = consistency_numbers(table, sets)
    assert numbers["consistency_auc/all/a"] == pytest.approx(1)
    assert numbers["consistency_above_half/all/b"] == 1
    assert numbers["consistency_same_number/a"] == 1
    assert numbers["consistency_same_number/b"] == 0
    assert numbers["consistency_auc/top_lift/a"] is None
    floor = table.query("against == 'gaussian' and model == 'a'")["cosine"].clip(0, 1).mean()
    assert numbers["consistency_gaussian_auc_mean"] == pytest.approx(floor, rel=1e-5)
    assert numbers["consistency_auc_mean"] == pytest.approx(1)
    assert numbers["consistency_auc/start/a"] < 1
    assert numbers["consistency_auc/start/b"] == pytest.approx(1)
    curves = consistency_curves(table, sets)
    assert set(curves["concepts"]) == {"all", "top_lift", "start", "gaussian"}
    assert (curves.query("concepts == 'all' and threshold < 0.99")["share"] == 1).all()
    assert consistency_curves(table.iloc[:0], sets).empty
    assert consistency_numbers(table.iloc[:0], sets) == {}
