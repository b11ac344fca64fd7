"""What counts as better, by hand: seeds, intervals, the same compute, and what cannot be judged."""

import numpy as np
import pytest

from tests.support import compared as tables
from usae.showing.comparison.verdicts import Outcome, better, beyond_start, outcome, sign, verdict, word
from usae.showing.results.compared import Compared
from usae.showing.results.reports import Reports

LOW = Outcome((0.30, 0.31, 0.32), 0.28, 0.33)


@pytest.mark.parametrize(
    ("other", "wanted"),
    [
        (Outcome((0.40, 0.41, 0.42), 0.38, 0.43), True),
        (Outcome((0.33, 0.34, 0.35), 0.34, 0.36), True),  # .03 apart, the seeds .02
        (Outcome((0.325, 0.325, 0.325), 0.34, 0.36), False),  # .015 apart, the seeds of the other .02
        (Outcome((0.31, 0.60, 0.61), 0.38, 0.43), False),  # one pair of seeds says otherwise
        (Outcome((0.40, 0.41, 0.42), 0.33, 0.45), False),  # the intervals over images meet
        (Outcome((0.40, 0.41, 0.42), np.nan, np.nan), False),
    ],
)
def test_better_by_all_three_rules(other, wanted):
    assert better(other, LOW) == wanted
    assert sign(other, LOW) == int(wanted)
    assert sign(LOW, other) == -int(wanted)
    assert not better(LOW, other)


@pytest.mark.parametrize(
    ("signs", "matched", "wanted"),
    [
        ((1, 0), (1, 0), "wins"),
        ((1, 1), (0, 1), "wins"),
        ((1, 0), (0, 0), "better"),  # not at the same compute
        ((1, 0), (1, -1), "better"),
        ((1, 0), None, "better"),
        ((1, -1), (1, 0), "trade"),
        ((0, 0), None, "tie"),
        ((0, -1), None, "usae wins"),
    ],
)
def test_four_words(signs, matched, wanted):
    assert word(signs, matched) == wanted


def opened(table):
    return Compared.of(Reports({"methods": table}, {}))


def changed(table, method, measure, factor, **columns):
    """Every run of a method's measure, and its interval, times a factor."""
    rows = (table["method"] == method) & (table["measure"] == measure)
    for name, value in columns.items():
        rows &= table[name] == value
    numbers = ["value", "low", "high"]
    table = table.copy()
    table.loc[rows, numbers] = table.loc[rows, numbers] * factor
    return table


@pytest.fixture
def equal():
    """Three seeds of methods that all reach what usae does: cross R2 .3, 40 shared concepts, floors 24 and 1."""
    rows = [
        row._replace(quality=(0.8, 0.3, 0.1, 0.4, 0.6), counts=tables.ROWS[11].counts) for row in tables.ROWS[11:]
    ]
    return tables.seeds(tables.methods(rows), 3)


def text(table, method):
    compared = opened(table)
    return verdict(compared, compared.named(method)).text


def test_equal_methods_tie(equal):
    assert text(equal, "sparc") == "tie"
    assert text(equal, "usae") == ""


def test_a_win_has_to_hold_at_the_same_compute(equal):
    more = changed(equal, "sparc", "r2_cross_mean", 1.2)
    assert text(more, "sparc") == "wins: cross R²"
    assert text(changed(more, "usae_all", "r2_cross_mean", 1.2), "sparc") == "better: cross R²"
    assert text(more[more["method"] != "usae_all"], "sparc") == "better: cross R²"


def test_equal_updates_may_hide_more_compute(equal):
    cheaper = changed(changed(equal, "sparc", "r2_cross_mean", 1.2), "usae", "encoder_updates", 3)
    without = cheaper[cheaper["method"] != "usae_all"]
    assert text(without, "sparc") == "better: cross R²"  # 2,700 GFLOP to 960
    assert text(changed(without, "sparc", "gflop", 0.1), "sparc") == "wins: cross R²"


def test_better_on_one_and_worse_on_the_other_is_a_trade(equal):
    table = changed(changed(equal, "sparc", "r2_cross_mean", 0.8), "sparc", "shared", 2)
    assert text(table, "sparc") == "trade: cross R² less, shared concepts more"


def test_worse_methods_lose(equal):
    assert text(changed(equal, "sparc", "r2_cross_mean", 0.8), "sparc") == "usae wins: cross R²"


def test_shared_concepts_count_beyond_the_methods_own_floors(equal):
    assert outcome(opened(equal), opened(equal).reference, "shared").seeds[0] == 40 - 24
    table = changed(equal, "sparc", "shared", 2)  # its start has twice as many, too
    compared = opened(table)
    assert outcome(compared, compared.named("sparc"), "shared").seeds[0] == 80 - 48
    higher = changed(equal, "sparc", "shared", 60, run="shuffled")  # more on re-paired images than at the start
    compared = opened(higher)
    assert outcome(compared, compared.named("sparc"), "shared").seeds[0] == 40 - 60


@pytest.mark.parametrize(("count", "wanted"), [(1, "one seed"), (2, "2 seeds")])
def test_fewer_than_three_seeds_are_not_judged(count, wanted):
    table = tables.seeds(tables.methods(), count)
    assert text(table, "sparc") == f"{wanted}: not judged"


def test_what_the_rules_need_is_not_made_up(equal):
    nothing = "no interval over images, or no start or re-paired twin: not judged"
    of_sparc = equal["method"] == "sparc"
    no_twin = equal[~(of_sparc & (equal["run"] == "shuffled"))]
    assert text(no_twin, "sparc") == nothing
    assert text(equal.assign(low=equal["low"].where(~of_sparc)), "sparc") == nothing
    no_r2 = equal[~(of_sparc & (equal["measure"] == "r2_cross_mean"))]
    assert text(no_r2, "sparc") == "a measure is missing: not judged"
    assert text(equal, "usae_published") == "another recipe: not judged"
    longer = changed(equal, "sparc", "steps", 2)
    assert text(longer, "sparc") == "another number of steps: not judged"
    assert text(equal[equal["method"] != "usae"], "sparc") == ""


def test_beyond_its_own_start():
    compared = opened(tables.methods())
    found = {each.label: beyond_start(compared, each) for each in compared.methods}
    assert found["sparc"] is True
    assert found["kmeans"] is False
    assert found["rosetta (cliques)"] is None
    assert found["linear (ridge)"] is None
