"""Whole trials: stores as `extract` writes them, ideal codes, and SAEs; of three models and of five."""

import numpy as np
import pytest

from usae.common.tables import write_table
from usae.evidence.planted.summary import summary
from usae.evidence.planted.tables import PLANTED, PLANTED_CONCEPTS
from usae.evidence.planted.trial import Trial, write_stores

FIVE = {"widths": (24, 28, 32, 36, 40), "shared": 20, "pairwise": 1, "most": 2, "private": 4, "twins": 2}
NEGATIVES = ("pair", "private", "twin")


def drawn(params, **world):
    planted = params.planted.model_copy(update={"world": params.planted.world.model_copy(update=world)})
    return Trial.draw(params.model_copy(update={"planted": planted}), 0)


@pytest.fixture(scope="module")
def trial(module_params):
    return drawn(module_params)


@pytest.fixture(scope="module")
def tables(trial):
    concepts, codes = trial.run()
    return summary(concepts, codes), concepts


@pytest.fixture(scope="module")
def values(tables):
    return tables[0].set_index(["setting", "quantity", "by", "kind"])["value"].sort_index()


@pytest.fixture(scope="module")
def of_five(module_params):
    return summary(*drawn(module_params, **FIVE).run()).set_index(["setting", "quantity", "by", "kind"])


def test_stores_hold_what_was_drawn(trial, tmp_path):
    manifests = write_stores(trial.world, 80, tmp_path)
    whole = next(trial.world.blocks("train", 80, 80)).activations
    for (model, manifest), rows in zip(manifests.items(), whole, strict=True):
        store = manifest.open("train", tmp_path)
        np.testing.assert_array_equal(np.asarray(store.take(range(80))), rows, err_msg=model)
        assert manifest.mean == pytest.approx(rows.astype(np.float64).mean(), abs=1e-9)
        assert manifest.std == pytest.approx(rows.astype(np.float64).std(ddof=1), rel=1e-9)


def test_every_model_has_more_concepts_than_channels(trial):
    assert trial.world.superposition.min() > 1.2


def test_shared_concepts_are_found_and_the_funnel_calls_them_universal(values):
    for setting in ("ideal", "matched"):
        assert values[setting, "tracked", "activity", "shared"] > 0.8
        assert values[setting, "called universal", "funnel", "shared"] > 0.95
    assert values["ideal", "precision", "funnel", "shared"] == 1
    assert values["matched", "precision", "funnel", "shared"] > 0.8


def test_the_funnel_hardly_calls_concepts_of_some_models_universal(values):
    for setting in ("ideal", "start", "matched", "shuffled"):
        of_kind = values[setting, "called universal", "funnel"].drop("shared")
        assert of_kind["others"] <= 0.05, setting
        assert of_kind.drop("others").fillna(0).max() <= 0.1, setting


def test_each_step_of_the_funnel_is_needed(values):
    """Entropy and dependence take pairs for shared; what twins have in common is real, but little."""
    called = values["ideal", "called universal"]
    assert min(called[rule, "pair"] for rule in ("entropy", "dependent")) > 0.5
    assert called["significant", "pair"] <= 0.1
    assert called["significant", "twin"] > 0.3
    assert called["funnel", "twin"] <= 0.1


def test_co_fires_separate_what_entropy_does_not(values):
    for kind in NEGATIVES:
        assert values["ideal", "auroc", "lift", kind] == 1
        assert values["matched", "auroc", "lift", kind] > 0.8  # codes that hardly fire have large lifts
        for setting in ("ideal", "matched"):
            assert values[setting, "auroc", "cofire_proportion_min", kind] > 0.99
    assert values["ideal", "called universal", "entropy", "private"] > 0.7
    assert values["ideal", "auroc", "firing_entropy", "twin"] < 0.9  # seeds 0, 1, 2: .48, .85, .51


def test_of_five_models_no_group_of_two_or_four_is_taken_for_all(of_five):
    value = of_five["value"]
    assert value["matched", "tracked", "activity", "shared"] > 0.6
    for setting in ("ideal", "matched"):
        assert value[setting, "called universal", "funnel", "shared"] > 0.7  # seeds 0, 1, 2: .81, .94, .88
        assert value[setting, "tracked", "activity", "most"] > 0.5
        for kind in (*NEGATIVES, "most", "others"):
            assert value[setting, "called universal", "funnel", kind] <= 0.05
    assert value["ideal", "called universal", "dependent", "most"] > 0.5


def test_the_start_tracks_and_agrees_on_fewer_concepts(values):
    for key in (("tracked", "activity", "shared"), ("agreed", "direction", "shared")):
        assert values["start", *key] < values["matched", *key]


def test_codes_alike_in_every_two_models_are_of_one_concept_more_often(values):
    assert values["matched", "precision", "alike", "shared"] > values["matched", "precision", "funnel", "shared"]
    assert values["matched", "called universal", "alike", "shared"] > 0.9


def test_on_re_paired_images_nothing_shared_is_tracked_and_only_entropy_calls_concepts_universal(values):
    assert values["shuffled", "tracked", "activity", "shared"] == 0
    assert np.isnan(values["shuffled", "auroc", "lift", "private"])
    called = values["shuffled", "called universal", :, "others"]
    assert called.drop("entropy").max() <= 0.05 < called["entropy"]


def test_tables_are_as_declared(trial, tables, tmp_path):
    for table, frame in zip((PLANTED, PLANTED_CONCEPTS), tables, strict=True):
        write_table(table, frame, tmp_path / f"{table.name}.parquet")
    assert len(tables[1]) == 4 * len(trial.world.kinds)
