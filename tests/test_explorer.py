"""The page: offline, valid, and its numbers are those of the tables."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.synthetic_run import MODELS, make_run
from usae.explorer import Run, write_report
from usae.explorer.overview import tiles
from usae.explorer.page import cards, choices, number, places, render, share
from usae.maximised import Maximised, write_maximised
from usae.params import load_params
from usae.reports import Reports

VOID = {"meta", "link", "img", "input", "br"}
ROOT = Path(__file__).parents[1]


class Page(HTMLParser):
    """Elements, their attributes and the text; fails on tags that do not close."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data.strip())

    def attributes(self, name):
        return [attrs[name] for _, attrs in self.elements if name in attrs]


def run_of(root, reports=None, **report):
    made = make_run(root)
    params = load_params(ROOT / "params.yaml")
    section = params.report.model_copy(update={"concepts": 5, "unique": 1, "images": 4, **report})
    params = params.model_copy(update={"models": MODELS, "report": section})
    tables = Reports.load(made.reports)
    return Run(params, reports(tables) if reports else tables, made.index, made.codes, root / "data/maximised")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def written(run, tmp_path_factory):
    return write_report(run, tmp_path_factory.mktemp("reports"))


@pytest.fixture(scope="module")
def page(written):
    return Page(written.read_text(encoding="utf-8"))


def test_the_page_refers_to_nothing_outside(written, page):
    text = written.read_text(encoding="utf-8")
    assert not re.search(r"https?://|//[a-z]+\.[a-z]|@import", text)
    for attribute in ("src", "href"):
        assert all(value.startswith(("data:", "#")) for value in page.attributes(attribute))
    anchors = {value[1:] for value in page.attributes("href") if value.startswith("#")}
    assert anchors <= set(page.attributes("id"))


def test_the_page_parses_and_ids_are_unique(page):
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    images = [attrs for tag, attrs in page.elements if tag == "img"]
    assert images
    assert all(attrs.get("alt", "").strip() for attrs in images)


def test_every_chosen_concept_has_a_card_with_its_numbers(run, page):
    found = {attrs["id"] for tag, attrs in page.elements if tag == "article"}
    chosen = choices(run)
    assert len(chosen) == 5 + len(MODELS)
    assert found == {f"concept-{c.concept}" + (f"-{c.owner}" if c.owner else "") for c in chosen}
    table = run.reports.concepts.set_index("concept_id")
    for choice in chosen:
        row = table.loc[choice.concept]
        assert f"{int(row['cofires']):,}" in page.words
        assert share(row["universality"]) in page.words


def test_cards_are_the_tables(run):
    concepts = run.reports.concepts.set_index("concept_id")
    models = run.reports.concept_models.set_index(["concept_id", "model"])
    for card in cards(run):
        row = concepts.loc[card.concept]
        assert (card.fires, card.cofires, card.tokens) == (row["fires"], row["cofires"], row["tokens"])
        np.testing.assert_equal([card.universality, card.lift], [row["universality"], row["lift"]])
        assert [line.model for line in card.rows] == list(MODELS)
        assert [line.fires for line in card.rows] == [models.loc[(card.concept, m), "fires"] for m in MODELS]
        assert len(card.images) == 4


def test_no_nan_reaches_the_page(page):
    words = " ".join(page.words)
    assert not re.search(r"\b(nan|NaN|None|inf)\b", words)
    assert "\u2013" in page.words


def test_summary_tiles(run):
    first, lift, own, across, alive = tiles(run.reports, 48, MODELS)
    shared = int((run.reports.concepts["cofires"] >= 100).sum())
    assert first.value == str(shared)
    assert (own.value, across.value) == ("66 %", "33 %")
    assert lift.value.endswith("\u00d7")
    assert alive.meaning.endswith("fire on 48 held-out images, 3,072 tokens")


def test_the_same_run_gives_the_same_files(run, written, tmp_path):
    again = write_report(run, tmp_path)
    assert again.read_bytes() == written.read_bytes()
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {path.name for path in (written.parent / "figures").iterdir()}
    assert {"concepts.svg", "concepts.png", "r2_matrix.svg"} <= names


def test_without_maximised_images_the_command_is_named(page):
    assert "dvc repro maximise report" in " ".join(page.words)


def test_maximised_images_stand_beside_their_model(tmp_path):
    run = run_of(tmp_path)
    concept = choices(run)[0].concept
    pictures = np.full((1, 8, 8, 4), 255, np.uint8)
    result = Maximised(pictures, np.zeros((2, 1), np.float32), np.ones(1, np.float32))
    real = np.array([[0.0], [2.0]])
    write_maximised(run.maximised, [concept], dict.fromkeys(MODELS, result), dict.fromkeys(MODELS, real))
    page = Page(render(run, [], {}))
    alts = [attrs["alt"] for tag, attrs in page.elements if tag == "img"]
    assert [f"Image that maximises concept {concept} for {model}" in alts for model in MODELS] == [True] * 3
    assert page.words.count("above 50 % of 2 images") == 3


def test_a_run_without_concepts_says_so(tmp_path):
    def dead(tables):
        concepts = tables.concepts.assign(alive=False, cofires=0, fires=0, universality=np.nan, lift=np.nan)
        kept = {
            "concepts": concepts.assign(firing_entropy=np.nan),
            "concept_models": tables.concept_models.assign(fires=0, cofire_proportion=np.nan),
        }
        return replace(tables, **{name: kept.get(name, frame.iloc[:0]) for name, frame in vars(tables).items()})

    page = Page(write_report(run_of(tmp_path, dead), tmp_path / "reports").read_text(encoding="utf-8"))
    assert "No concept fires on 100 tokens" in " ".join(page.words)
    assert not [tag for tag, _ in page.elements if tag == "article"]


def test_hostile_names_are_escaped(tmp_path):
    label = "<script>alert('x')</script>"
    run = run_of(tmp_path, lambda tables: replace(tables, concepts=tables.concepts.assign(top_label=label)))
    text = render(run, [], {})
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_numbers_read_well():
    values = (1234, 0.01234, 7.0, 1500.4, np.nan)
    assert [number(value) for value in values] == ["1,234", "0.0123", "7", "1,500", "\u2013"]
    assert [places(0.996), places(np.nan)] == ["1.00", "\u2013"]
    assert share(np.nan) == "\u2013"
