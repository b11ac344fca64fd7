"""The page of methods: offline, valid, rules before numbers; one sentence where nothing was compared."""

from dataclasses import replace

import pytest

from tests.support import compared as tables
from tests.support.contrasted import verdict
from tests.support.html_page import Page, assert_offline
from usae.showing.comparison import write_comparison
from usae.showing.comparison.page import render
from usae.showing.explorer import write_report
from usae.showing.explorer.opening import judgement
from usae.showing.results.compared import Compared


@pytest.fixture(scope="module")
def compared(run):
    added = {"methods": tables.methods(), "method_funnel": tables.funnel(), "method_sharing": tables.sharing()}
    return replace(run, reports=run.reports.having(**added))


@pytest.fixture(scope="module")
def written(compared, tmp_path_factory):
    return write_comparison(compared, tmp_path_factory.mktemp("reports"))


def test_the_page_refers_to_nothing_but_the_other_page(text, page):
    assert_offline(text, page, "index.html")


def test_the_rules_come_before_any_number(text):
    rules, numbers = text.index('id="rules"'), text.index('id="compared"')
    assert rules < numbers
    for said in (
        "<b>better</b>",
        "<b>wins</b>",
        "<b>trade</b>",
        "<b>tie</b>",
        "A win there is no win",
        "its own start",
    ):
        assert rules < text.index(said) < numbers
    assert "state of the art" not in text
    assert rules < text.index('id="standing"') < numbers


def test_the_verdict_on_the_run_comes_first_in_one_line_and_links(compared, text):
    assert text.index('id="verdict"') < text.index('id="rules"')
    assert '<a href="index.html#verdict">No verdict</a>' in text
    missed = judgement(verdict("not readable", "with caution"))
    refused = render(Compared.of(compared.reports), compared.params.models, [], {}, missed)
    assert "Not readable: 2 of 3 bars are missed" in refused


def test_every_method_is_in_both_tables(page):
    words = [word for word in page.words if word]
    for label in ("linear (ridge)", "hub (language)", "usae", "crosscoder (refitted)", "usae_published"):
        assert words.count(label) >= 2
    assert len([value for value in page.attributes("data-method") if value]) == len(tables.ROWS)


def test_seven_figures_are_inside_and_in_files(written, page):
    assert sum(tag == "img" for tag, attrs in page.elements if "src" in attrs) == 7
    assert len(list((written.parent / "figures").glob("method_*.svg"))) == 7
    assert all(value.strip() for value in page.attributes("alt"))


def test_the_same_tables_give_the_same_bytes(compared, written, tmp_path):
    assert write_comparison(compared, tmp_path).read_bytes() == written.read_bytes()


def test_without_a_comparison_there_is_one_sentence(run, tmp_path):
    text = write_comparison(run, tmp_path).read_text(encoding="utf-8")
    assert "dvc repro compare" in text
    assert "<table" not in text
    Page(text)
    assert not list(tmp_path.glob("figures/*"))


def test_the_concepts_link_to_the_methods_where_there_are_any(compared, tmp_path):
    """Where there are none: tests/showing/explorer/test_explorer.py."""
    assert '<a href="methods.html">' in write_report(compared, tmp_path).read_text(encoding="utf-8")
