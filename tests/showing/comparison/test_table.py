"""The tables of the page of methods: cells, dashes with reasons, details; sentences that the numbers make true."""

import pytest

from tests.support import compared as tables
from tests.support.imports import ROOT
from tests.support.synthetic_run import MODELS
from usae.showing.comparison.table import COST, QUALITY, dashes, lines, signed, signed_count
from usae.showing.comparison.words import (
    METHOD_TEXTS,
    budget,
    described,
    standing,
    summary,
    without_evidence,
)
from usae.showing.results.compared import Compared, ComparedMethod
from usae.showing.results.reports import Reports

DASH = "\u2013"


def opened(methods, rows=tables.ROWS):
    return Compared.of(Reports({"methods": methods, "method_funnel": tables.funnel(rows)}, {}))


@pytest.fixture(scope="module")
def compared():
    return opened(tables.methods())


@pytest.fixture(scope="module")
def quality(compared):
    return {line.label: line for block in lines(compared, MODELS, QUALITY).values() for line in block}


def cells(line, headings=QUALITY):
    return dict(zip([heading.name for heading in headings], [cell.text for cell in line.cells], strict=True))


def test_cells_hold_the_numbers_of_the_tables(quality):
    assert cells(quality["sparc"]) == {
        "self": "0.72", "cross": "0.32", "of_ridge": "91 %", "adds": "+0.23", "others": "0.46",
        "others_of_ridge": "89 %", "joint": "0.76", "alive": "256", "significant": "230", "shared": "81",
        "start": "24", "shuffled": "2", "untrained": "5", "beyond": "+57", "back": "20 %",
        "auc": "0.83", "auc_adds": "+0.04",
    }  # fmt: skip
    published = cells(quality["usae_published"])
    assert (published["cross"], published["shared"], published["beyond"]) == ("\u22120.13", "18", "\u22122")
    assert cells(quality["linear (ridge)"])["shared"] == DASH
    assert cells(quality["usae_all"])["back"] == DASH
    back = QUALITY.index(next(heading for heading in QUALITY if heading.name == "back"))
    assert quality["sparc"].cells[back].beside == ["of 180", "start 25 %"]
    assert quality["usae_all"].cells[back].beside == []


def test_costs(compared):
    block = lines(compared, MODELS, COST)["joint"]
    assert cells(block[0], COST) == {
        "l0": "16", "steps": "752", "updates": "251", "parameters": "157,000", "gflop": "960"
    }  # fmt: skip


def test_differences_have_a_sign_and_zero_has_none():
    assert [signed(value) for value in (0.304, -0.5, 0.001, -0.001, float("nan"))] == [
        "+0.30", "\u22120.50", "0.00", "0.00", DASH
    ]  # fmt: skip
    assert [signed_count(value) for value in (16, -5, 0)] == ["+16", "\u22125", "0"]


def test_dashes_have_their_reason(compared):
    found = dashes(compared, QUALITY)
    assert "at its start: nothing was measured before a first step (rosetta (cliques))" in found
    assert any(text.startswith("re-paired: no twin on re-paired images (usae_published)") for text in found)
    assert not [text for text in found if "linear" in text]  # bounds have words of their own
    assert "steps: fitted in closed form (8 methods)" in dashes(compared, COST)


def test_every_dash_is_explained(compared, quality):
    explained = dashes(compared, QUALITY)
    for line in quality.values():
        for heading, cell in zip(QUALITY, line.cells, strict=True):
            if cell.text == DASH and line.block != "bounds":
                title = heading.title.replace("\u00ad", "")
                assert any(text.startswith(title) and heading.missing in text for text in explained)


def test_intervals_and_seeds_stand_beside_what_decides():
    three = opened(tables.seeds(tables.methods(), 3, 0.05))
    block = lines(three, MODELS, QUALITY)["joint"]
    beside = dict(
        zip([heading.name for heading in QUALITY], [cell.beside for cell in block[0].cells], strict=True)
    )
    assert beside["cross"] == ["0.39 to 0.40", "seeds 0.39 to 0.43"]
    assert beside["shared"] == ["40 to 40", "seeds 40 to 44"]
    assert beside["self"] == []


def test_one_seed_has_an_interval_and_no_range():
    one = opened(tables.seeds(tables.methods(), 1))
    cross = lines(one, MODELS, QUALITY)["joint"][0].cells[1]
    assert cross.beside == ["0.39 to 0.40"]


def test_details_hold_the_matrix_and_the_funnel(quality):
    line = quality["sparc"]
    names = ["from supervised", "from distilled", "from language", "all but the target", "all, the target too"]
    assert [name for name, _ in line.matrix] == names
    assert line.matrix[0][1] == ["0.74", "0.29", "0.33"]
    assert line.matrix[-1][1] == ["0.76"] * 3
    assert line.counts[-1] == ("beyond controls", ["81", "24", "2", "5"])
    assert quality["usae_published"].counts[-1] == ("beyond controls", ["18", "20", DASH, DASH])
    assert quality["linear (ridge)"].counts == []


def test_blocks_keep_their_order_and_are_left_out_where_empty(compared):
    assert list(lines(compared, MODELS, COST)) == ["bounds", "without training", "joint", "as published"]
    assert list(lines(opened(tables.methods(tables.ROWS[11:13])), MODELS, COST)) == ["joint"]


def test_sentences_say_what_the_table_says(compared):
    assert summary(compared) == [
        "From the codes of one model, usae_all explains most of another: 40 %, usae 39 %; the best linear map "
        "35 %.",
        "Most concepts beyond its own floors are shared by sparc: 81 against 24; usae: 40 against 24.",
    ]
    assert without_evidence(compared) == (
        "In this run that is so for hub (supervised), hub (distilled), kmeans, crosscoder_unit, "
        "crosscoder (masked), crosscoder (calibrated), crosscoder (refitted), usae_published."
    )
    assert summary(opened(tables.methods(tables.ROWS[:1]))) == []
    assert without_evidence(opened(tables.methods(tables.ROWS[11:12]))) == ""


def test_what_can_be_called_better_depends_on_seeds(compared):
    assert standing(compared).startswith("In this run the universal SAE has not the 3 seeds that are asked for.")
    few = tables.ROWS[11:13]
    assert standing(opened(tables.seeds(tables.methods(few), 3))) == (
        "3 seeds or more, so judged in the last column: usae_all, beside usae."
    )
    alone = tables.seeds(tables.methods(few[:1]), 3)
    assert standing(opened(alone)).startswith("In this run no other method has the 3 seeds")


def test_a_method_and_its_form_are_described():
    assert described(ComparedMethod("bounds", "linear", "rank-16")) == (
        "a dense linear map between models; the best one of this rank"
    )
    assert described(ComparedMethod("joint", "crosscoder", "masked")) == (
        "one code of all models, free norms; the other models count as their means"
    )
    assert described(ComparedMethod("without training", "hub", "hub-language")).endswith("read into it by ridge")
    assert described(ComparedMethod("joint", "new", "")) == ""


def test_every_method_of_the_package_is_described():
    names = {path.stem for path in (ROOT / "usae/methods").glob("*.py")} - {"__init__"}
    assert names <= set(METHOD_TEXTS)


def test_another_budget_is_said():
    rows = [tables.ROWS[11], tables.ROWS[14]._replace(costs=(*tables.ROWS[14].costs[:3], 188, 188, 1, 1))]
    compared = opened(tables.methods(rows), rows)
    assert [budget(compared, each) for each in compared.methods] == ["", "188 steps; usae: 752"]
    assert budget(opened(tables.methods(tables.ROWS[:1])), compared.methods[0]) == ""
