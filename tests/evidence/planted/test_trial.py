"""The whole trial, as in the demo: stores as `extract` writes them, ideal codes, and an SAE."""

import numpy as np
import pytest

from usae.common.tables import write_table
from usae.evidence.metrics.firing.counts import FiringCounts, lift
from usae.evidence.planted.tables import PLANTED, PLANTED_CONCEPTS
from usae.evidence.planted.trial import Trial, common_slots, write_stores


@pytest.fixture(scope="module")
def trial(module_params):
    return Trial.draw(module_params.planted, module_params.train, threshold=0.1, agreement=0.1, seed=0)


@pytest.fixture(scope="module")
def tables(trial, one_thread):
    return trial.run()


def test_stores_hold_what_was_drawn(trial, tmp_path):
    manifests = write_stores(trial.world, 80, tmp_path)
    whole = next(trial.world.blocks("train", 80, 80)).activations
    for (model, manifest), rows in zip(manifests.items(), whole, strict=True):
        store = manifest.open("train", tmp_path)
        np.testing.assert_array_equal(np.asarray(store.take(range(80))), rows, err_msg=model)
        assert manifest.mean == pytest.approx(rows.astype(np.float64).mean(), abs=1e-9)
        assert manifest.std == pytest.approx(rows.astype(np.float64).std(ddof=1), rel=1e-9)


def test_private_concepts_of_all_models_share_indices(trial):
    world, slots = trial.world, common_slots(trial.world)
    single = np.isin(world.kinds, ("shared", "pair"))
    assert len(set(slots[single])) == single.sum()
    for kind in ("private", "twin"):
        for slot in set(slots[world.kinds == kind]):
            assert world.owners[slots == slot].tolist() == np.eye(3, dtype=bool).tolist()
    assert sorted(set(slots)) == list(range(slots.max() + 1))


def test_ideal_codes_fire_where_the_concept_is_and_only_in_its_models(trial):
    codes, matches = trial.ideal()
    counts = FiringCounts(3, matches.total, 0.0)
    for chunks in codes:
        counts.update(chunks)
    active = sum((block.activity > 0).sum(axis=(0, 1)) for block in trial.held_out)  # (planted)
    shared = trial.world.kinds == "shared"
    assert (counts.fires[:, matches.joint[shared]] <= active[shared]).all()
    assert (counts.fires[:, matches.joint[shared]] >= 0.5 * active[shared]).all()
    lifts = lift(counts.cofires, counts.fires, counts.tokens)
    private = lifts[matches.joint[trial.world.kinds == "private"]]
    assert lifts[matches.joint[shared]].min() > 10 * private.max()


def test_lift_separates_and_entropy_is_fooled(tables):
    quantities = tables[0].set_index(["setting", "quantity", "by", "kind"])["value"]
    for kind in ("pair", "private", "twin"):
        assert quantities["ideal", "auroc", "lift", kind] == 1
        assert quantities["matched", "auroc", "lift", kind] > 0.98  # of 176 pairs, 2 the wrong way round
    assert quantities["ideal", "called universal", "entropy", "private"] > 0.7
    assert quantities["ideal", "auroc", "firing_entropy", "twin"] < 0.95  # seeds 0, 1, 2: .906, .547, .812
    assert quantities["matched", "tracked", "activity", "shared"] > 0.8
    assert quantities["matched", "called universal", "entropy and significant", "shared"] > 0.7  # .75, .875, .8125


def test_the_funnel_finds_shared_concepts_and_hardly_calls_a_private_one_universal(tables):
    universal = tables[0].query("quantity == 'called universal'").set_index(["setting", "by", "kind"])["value"]
    assert universal["ideal", "funnel", "shared"] == 1
    assert universal["matched", "funnel", "shared"] > 0.8
    for setting in ("ideal", "matched", "shuffled"):
        assert universal[setting, "funnel", "private"] <= 0.1 < universal["ideal", "entropy", "private"]


def test_on_re_paired_images_nothing_is_tracked_and_only_entropy_calls_concepts_universal(tables):
    quantities = tables[0].set_index(["setting", "quantity", "by", "kind"])["value"].sort_index()
    assert quantities["shuffled", "tracked", "activity", "shared"] == 0
    assert np.isnan(quantities["shuffled", "auroc", "lift", "private"])
    universal = tables[0].query("setting == 'shuffled' and quantity == 'called universal'")
    concepts = (universal["value"] * universal["planted"]).groupby(universal["by"]).sum()
    assert concepts.drop("entropy").max() <= 1  # of 46, at a false discovery rate of 5 %: seeds 0, 1, 2: 1, 0, 1
    assert concepts["entropy"] > 0.2 * 46


def test_tables_are_as_declared(trial, tables, tmp_path):
    for table, frame in zip((PLANTED, PLANTED_CONCEPTS), tables, strict=True):
        write_table(table, frame, tmp_path / f"{table.name}.parquet")
    assert len(tables[1]) == 3 * len(trial.world.kinds)
