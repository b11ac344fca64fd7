"""The page of methods: offline, valid, rules before numbers; one sentence where nothing was compared."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tests.support import compared as tables
from tests.support.synthetic_run import synthetic_run
from usae.showing.comparison import write_comparison
from usae.showing.explorer import write_report

VOID = {"meta", "link", "img", "input", "br"}


class Outline(HTMLParser):
    """Attributes and text of a page; fails on tags that do not close."""

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.words = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, *each) for each in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data.strip())

    def values(self, name):
        return [value for _, key, value in self.attributes if key == name]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return synthetic_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def compared(run):
    added = {"methods": tables.methods(), "method_funnel": tables.funnel(), "method_sharing": tables.sharing()}
    return replace(run, reports=run.reports.having(**added))


@pytest.fixture(scope="module")
def written(compared, tmp_path_factory):
    return write_comparison(compared, tmp_path_factory.mktemp("reports"))


@pytest.fixture(scope="module")
def text(written):
    return written.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Outline(text)


def test_the_page_refers_to_nothing_but_the_other_page(text, page):
    addresses = set(re.findall(r"https?://[^\s\"'<)]*|@import", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    links = page.values("href") + page.values("src")
    assert {value for value in links if not value.startswith(("data:", "#"))} == {"index.html"}
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {value[1:] for value in links if value.startswith("#")} <= set(ids)


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


def test_every_method_is_in_both_tables(page):
    words = [word for word in page.words if word]
    for label in ("linear (ridge)", "hub (language)", "usae", "crosscoder (refitted)", "usae_published"):
        assert words.count(label) >= 2
    assert len([value for value in page.values("data-method") if value]) == len(tables.ROWS)


def test_six_figures_are_inside_and_in_files(written, page):
    assert sum(tag == "img" for tag, key, _ in page.attributes if key == "src") == 6
    assert len(list((written.parent / "figures").glob("method_*.svg"))) == 6
    assert all(value.strip() for value in page.values("alt"))


def test_the_same_tables_give_the_same_bytes(compared, written, tmp_path):
    assert write_comparison(compared, tmp_path).read_bytes() == written.read_bytes()


def test_without_a_comparison_there_is_one_sentence(run, tmp_path):
    text = write_comparison(run, tmp_path).read_text(encoding="utf-8")
    assert "dvc repro compare" in text
    assert "<table" not in text
    Outline(text)
    assert not list(tmp_path.glob("figures/*"))


def test_the_concepts_link_to_the_methods_where_there_are_any(run, compared, tmp_path):
    link = '<a href="methods.html">'
    assert link not in write_report(run, tmp_path / "without").read_text(encoding="utf-8")
    assert link in write_report(compared, tmp_path / "with").read_text(encoding="utf-8")
