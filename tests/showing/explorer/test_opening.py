"""The page opens with the verdict, then the funnel; kinds of concepts are what the tables say."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.support import contrasted
from tests.support.synthetic_run import MODELS
from usae.images.pixels.index import Record, write_index
from usae.showing.explorer.kinds import kinds, sharing_pairs
from usae.showing.explorer.opening import judgement, step_rows
from usae.showing.explorer.overview import LeftOut, left_out, tiles
from usae.showing.explorer.page import render
from usae.showing.explorer.story import story
from usae.showing.explorer.wording import quoted
from usae.showing.figures import pictures
from usae.showing.results.reports import Reports


def judged(run, *levels):
    tables = {
        "funnel": contrasted.funnel(),
        "controls": contrasted.controls(),
        "sensitivity": contrasted.sensitivity(),
        "verdict": contrasted.verdict(*levels),
    }
    return replace(run, reports=run.reports.having(**tables))


def test_reasons_come_worst_first_and_what_nobody_asked_in_one():
    shown = judgement(contrasted.verdict("with caution", "not readable", "with caution"))
    assert (shown.word, shown.style, shown.readable) == ("Not readable", "not-readable", False)
    assert shown.reasons == (
        ("Reason 1", "Advice 1"),
        ("Reason 0", "Advice 0"),
        ("Not asked: Reason 2", "Advice 2"),
    )
    assert shown.rows[0] == (
        "own variance",
        "met",
        "The codes of `a` explain 80 % of its own variance",
        "0.8, bar 0",
    )
    assert shown.line == "Not readable: 3 of 4 bars are missed"
    good = judgement(contrasted.verdict())
    assert (good.word, good.reasons, good.line) == ("Readable", (), "Readable")
    none = judgement(pd.DataFrame())
    assert (none.word, none.readable) == ("No verdict", True)


def test_what_ran_says_how_many_images_were_left_out_and_why(run):
    """Of the training images: the held-out ones of this run can all be read."""
    assert left_out(run.root) == []
    why = ["the file is empty"] * 2 + [f"fault {number}" for number in range(4)]
    sound = [Record(key=f"{number}.png", data=b"") for number in range(30)]
    index = run.root / "data/images/train.parquet"
    write_index([*sound, *(Record(key=f"{n}.jpg", fault=fault) for n, fault in enumerate(why))], index, None, ())
    reasons = "the file is empty (2), fault 0 (1), fault 1 (1), other reasons (2)"
    assert left_out(run.root) == [LeftOut("training", 6, 36, reasons, "data/images/train.parquet")]
    text, _ = render(run, [], [], {})
    index.unlink()
    said = f"6 of 36 training images were left out because they cannot be read: {reasons}."
    assert said in text[text.index('id="run"') :]


def test_the_verdict_stands_before_every_number(run):
    text, _ = render(judged(run, "with caution"), [], [], {})
    first = text.index('id="verdict"')
    assert first < text.index("Reason 0") < text.index('id="steps"') < text.index('class="tiles"')
    assert 'class="verdict with-caution"' in text


def test_the_funnel_stands_beside_its_start_and_the_worst_control(run):
    rows = step_rows(judged(run).reports)
    assert [row.name for row in rows] == list(contrasted.STEPS)
    assert [row.concepts for row in rows] == ["512", "465", "268", "42", "28", "5"]
    assert [row.start for row in rows] == ["512", "512", "229", "33", "25", "1"]
    assert [row.accidents for row in rows] == [
        "up to 512",
        "up to 498",
        "up to 43",
        "up to 1",
        "up to 0",
        "not asked",
    ]
    assert [row.hollow for row in rows] == [False] * 5 + [True]
    assert rows[1].width == 465 / 512
    alone = contrasted.funnel().query("run == 'usae' and not start")
    assert {(row.start, row.accidents) for row in step_rows(run.reports.having(funnel=alone))} == {
        ("\u2013", "not asked")
    }
    assert step_rows(run.reports) == []


def test_a_run_that_is_not_readable_gets_no_count(run):
    refused = judged(run, "not readable")
    assert step_rows(refused.reports) == []
    assert story(refused.reports, MODELS) == []
    text, _ = render(refused, [], [], {})
    assert 'id="refused"' in text
    assert 'id="steps"' not in text
    assert '"readable":false' in text
    assert not any("concepts" in tile.meaning for tile in tiles(refused.reports, MODELS))
    by_name = {picture.name: picture.claim for picture in pictures(refused.reports, MODELS, 0.1)}
    for name in ("funnel", "sensitivity", "controls"):
        assert by_name[name].startswith("This run is not readable")
    assert by_name["r2_matrix"].startswith("Codes explain 66 %")
    caution = {
        picture.name: picture.claim for picture in pictures(judged(run, "with caution").reports, MODELS, 0.1)
    }
    assert caution["funnel"].startswith("All models share 28 of 512 alive concepts")


def test_what_was_not_measured_is_a_line_and_no_figure(run):
    drawn = pictures(run.reports, MODELS, 0.1)
    absent = [picture for picture in drawn if not picture.drawn]
    assert {"funnel", "planted", "ood"} <= {picture.name for picture in absent}
    text, _ = render(run, absent, [], {})
    assert '<figure class="chart' not in text
    assert "Not measured: No concept was put to the test (Run <code>dvc repro measure</code>" in text


def test_code_in_a_sentence():
    assert quoted("`a` has 5 % < 1") == "<code>a</code> has 5\u00a0% &lt; 1"


PAIRS = [(c, a, b) for c in range(8) for a in MODELS for b in MODELS if a != b]
SIGNIFICANT = {
    (3, "supervised+language"),
    (4, "supervised+distilled"),
    (4, "distilled+language"),
    (5, "supervised+language"),
}


@pytest.fixture
def tables():
    """Eight concepts: universal, shared, of one model, of a pair, of two pairs, of a pair that hardly agrees, of
    nobody, dead.
    """
    concepts = pd.DataFrame(
        {
            "concept_id": range(8),
            "alive": [True] * 7 + [False],
            "stops_at": ["universal", "stable", "in all models", *["significant"] * 4, "alive"],
            "unique_to": [None, None, "language", *[None] * 5],
        }
    )
    pairs = pd.DataFrame(PAIRS, columns=["concept_id", "model", "other"])
    pairs["cofire_proportion"] = np.where((pairs["concept_id"] == 5) & (pairs["model"] == "language"), 0.05, 0.3)
    names = ["supervised+distilled", "supervised+language", "distilled+language", "supervised+distilled+language"]
    nulls = pd.DataFrame([(c, name) for c in range(8) for name in names], columns=["concept_id", "models"])
    nulls["significant"] = [
        (c, m) in SIGNIFICANT for c, m in zip(nulls["concept_id"], nulls["models"], strict=True)
    ]
    frames = {"concepts": concepts, "concept_pairs": pairs, "nulls": nulls.assign(null="images")}
    return Reports({**frames, "funnel": contrasted.funnel()}, {})


def test_kinds_are_what_the_tables_say(tables):
    assert kinds(tables, MODELS, 0.1) == [
        "universal", "shared", "language", "supervised+language", "some", "none", "none", "dead"
    ]  # fmt: skip
    assert sharing_pairs(tables, MODELS, 0.1)[4] == ["supervised+distilled", "distilled+language"]
    assert sharing_pairs(tables, MODELS[:2], 0.1) == {}  # of two models a pair is all of them


def test_nothing_is_universal_where_nobody_looked_for_it_elsewhere(tables):
    funnel = contrasted.funnel().query("step != 'stable'")
    assert kinds(tables.having(funnel=funnel), MODELS, 0.1)[:2] == ["shared", "shared"]
    quick = tables["concepts"].assign(stops_at="no control")
    assert kinds(tables.having(concepts=quick), MODELS, 0.1)[:3] == ["agreed"] * 3
    unasked = tables["concepts"].assign(stops_at=None)
    found = kinds(tables.having(concepts=unasked, funnel=pd.DataFrame()), MODELS, 0.1)
    assert found == ["unasked", "unasked", "language", *["unasked"] * 4, "dead"]
