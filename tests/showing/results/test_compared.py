"""The tables of stage `compare`, opened: order, runs, modes, floors; what is absent is not a number."""

import numpy as np
import pandas as pd
import pytest

from tests.support import compared as tables
from tests.support.synthetic_run import MODELS
from usae.showing.results.compared import BLOCKS, Compared, ComparedMethod
from usae.showing.results.reports import Reports


def opened(methods, **others):
    return Compared.of(Reports({"methods": methods, **others}, {}))


@pytest.fixture(scope="module")
def compared():
    return opened(tables.methods(), method_funnel=tables.funnel(), method_sharing=tables.sharing())


def test_methods_come_by_block_then_as_in_the_table(compared):
    blocks = [each.block for each in compared.methods]
    assert blocks == sorted(blocks, key=BLOCKS.index)
    assert [(each.method, each.form) for each in compared.methods] == [
        (row.method, row.form) for row in tables.ROWS
    ]
    mixed = pd.concat([tables.methods(tables.ROWS[11:]), tables.methods(tables.ROWS[:11])])
    assert [each.block for each in opened(mixed).methods] == blocks


def test_labels_name_the_form_once():
    labels = [ComparedMethod("joint", *each).label for each in (("sparc", ""), ("hub", "hub-a"), ("cc", "masked"))]
    assert labels == ["sparc", "hub (a)", "cc (masked)"]


def test_numbers_are_of_their_run_and_mode(compared):
    sparc = compared.named("sparc")
    assert [compared.across(sparc, mode) for mode in ("single", "others", "joint")] == [0.318, 0.464, 0.756]
    assert compared.across(sparc, run="start") == 0.09
    assert [compared.value(sparc, "shared", run) for run in ("run", "start", "shuffled")] == [81, 24, 2]
    assert compared.estimate(sparc, "shared").null == 0
    assert compared.ceiling() == 0.349
    assert compared.ceiling("others") == 0.523
    assert np.isnan(compared.value(sparc, "stability_mean"))


def test_the_floor_is_the_larger_one_of_start_and_twin(compared):
    hub = next(each for each in compared.methods if each.form == "hub-supervised")
    assert compared.floor(hub) == 71
    assert compared.floor(compared.named("rosetta")) == 0  # no start: the twin alone
    assert np.isnan(compared.floor(compared.ridge))


def test_matrices_are_of_sources_and_targets(compared):
    sparc = compared.named("sparc")
    matrix = compared.matrix(sparc, MODELS)
    np.testing.assert_allclose(matrix, np.where(np.eye(3), 0.718, 0.318) + tables.SPREAD)
    np.testing.assert_allclose(compared.matrix(sparc, MODELS[::-1]), matrix[::-1, ::-1])
    np.testing.assert_allclose(compared.matrix(sparc, MODELS, "joint"), np.full((1, 3), 0.756))


def test_seeds_are_those_measured(compared):
    usae = compared.reference
    assert compared.seeds(usae, "shared") == [40]
    three = opened(tables.seeds(tables.methods(), 3, 0.5))
    assert three.seeds(usae, "shared") == [40, 60, 80]


def test_a_twin_is_what_starts_and_floors_are_compared_with():
    methods = tables.methods()
    own = methods[(methods["method"] == "usae") & (methods["run"] == "run") & (methods["measure"] == "shared")]
    less = opened(pd.concat([tables.seeds(methods, 2, 0.5), own.assign(run="twin", value=30.0)]))
    usae = less.reference
    assert less.value(usae, "shared") == 40
    assert less.seeds(usae, "shared") == [30, 60]
    assert less.beyond(usae) == 30 - less.floor(usae)
    assert less.beyond(less.named("sparc")) == 81 - less.floor(less.named("sparc"))


def test_of_several_forms_the_headline_stands_for_the_method(compared):
    assert compared.named("crosscoder").form == "calibrated"
    assert compared.named("hub").form == "hub-supervised"
    assert compared.named("nothing") is None


def test_steps_of_the_funnel(compared):
    assert list(compared.steps(compared.reference)) == list(tables.STEPS)
    assert list(compared.steps(compared.reference).values()) == [256, 250, 190, 115, 40]
    assert compared.steps(compared.ridge) == {}


def test_without_tables_there_is_nothing():
    nothing = Compared.of(Reports({}, {}))
    assert nothing.methods == ()
    assert nothing.reference is None
    assert np.isnan(nothing.ceiling())
