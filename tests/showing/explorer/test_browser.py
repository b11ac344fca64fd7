"""The page in a real browser, from disk, without a network: what a reader sees is what the tables say."""

import csv
import re
import shutil
import urllib.parse
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from tests.support import contrasted
from tests.support.chromium import Tab, browser
from tests.support.synthetic_run import CONCEPTS, MODELS, maximised_run, synthetic_run
from usae.showing.explorer.cards import chosen, ranked_concepts
from usae.showing.explorer.page import payload, render
from usae.showing.explorer.panels import panels
from usae.showing.explorer.parts import within, write_files
from usae.showing.explorer.wording import decimals, number, share
from usae.showing.maximisation.on_page import PAGE_PICTURES
from usae.showing.results.run import Run

pytestmark = pytest.mark.skipif(
    browser() is None, reason="no Chromium on this machine (apt-get install chromium, or set $CHROMIUM)"
)
DEAD = CONCEPTS - 1


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = synthetic_run(tmp_path_factory.mktemp("run"))
    return maximised_run(run, [chosen(run)[0].concept])


@pytest.fixture(scope="module")
def address(run):
    return beside(run, run.root / "reports")


def beside(run, folder):
    """The page of a run without figures, in another folder, with what lies beside it; its address."""
    text, files = render(run, [], [], {})
    page = folder / "index.html"
    page.write_text(text, encoding="utf-8")
    write_files(folder, files)
    if folder != run.root / "reports":
        shutil.copy(run.root / "reports" / PAGE_PICTURES, folder)
    return page.as_uri()


@pytest.fixture(scope="module")
def tab(address):
    with Tab(browser()) as tab:
        tab.open(address)
        yield tab


@pytest.fixture
def screen(tab):
    """The tab with another width and scheme, until the test is over."""

    def change(width, dark):
        tab.show_on(width, dark=dark)
        return tab

    yield change
    tab.show_on(1280)


@pytest.fixture
def visit(tab, address):
    """Open a state of the page by its address."""

    def go(**state):
        tab.open(f"{address}#{urllib.parse.urlencode(state)}")
        return tab

    return go


def ids(tab):
    return tab.run("[...document.querySelectorAll('#list [data-row]')].map((row) => Number(row.dataset.row))")


def cards(tab):
    return tab.run("[...document.querySelectorAll('#list [data-card]')].map((card) => Number(card.dataset.card))")


def cells(tab, concept):
    return tab.run(
        f"[...document.querySelectorAll('[data-row=\"{concept}\"] td')].map((cell) => cell.textContent)"
    )


def text(tab, selector):
    return tab.run(f"document.querySelector('{selector}')?.textContent")


def test_the_table_shows_the_numbers_of_the_tables(run, visit):
    tab = visit(view="table", sort="lift")
    table = run.reports["concepts"].set_index("concept_id")
    wanted = table.sort_values("lift", ascending=False, kind="stable").index.tolist()
    assert ids(tab) == wanted[:25]
    for concept in wanted[:25]:
        row = table.loc[concept]
        numbers = [number(row[name]) for name in ("lift", "cofires", "fires", "firing_entropy", "energy")]
        label = "\u2013" if pd.isna(row["top_label"]) else row["top_label"]
        found = cells(tab, concept)
        agreement = share(row["cofire_proportion_min"])
        assert [found[0], *found[2:]] == [label, agreement, *numbers, number(row["models_alive"])]
    assert text(tab, "#count") == f"{CONCEPTS} of {CONCEPTS} concepts"


def test_undefined_numbers_come_last_both_ways(visit):
    for order in ("asc", "desc"):
        tab = visit(view="table", sort="cofire_proportion_min", order=order, page=2)
        assert ids(tab)[-1] == DEAD
        assert cells(tab, DEAD)[2] == "\u2013"


def test_headings_sort_and_links_keep_the_state(tab, visit):
    visit(view="table", kind="unasked")
    tab.run("document.querySelector('[data-sort=energy]').click()")
    tab.wait("location.hash.includes('sort=energy')")
    assert "kind=unasked" in tab.run("location.hash")
    assert text(tab, "[aria-sort=descending]").startswith("energy")
    before = ids(tab)
    tab.run("document.querySelector('[data-sort=energy]').click()")
    tab.wait("location.hash.includes('order=asc')")
    assert ids(tab) == before[::-1] or len(before) == 25
    tab.run("history.back()")
    tab.wait("!location.hash.includes('order=asc')")
    assert ids(tab) == before


def test_filters(run, visit):
    concepts = run.reports["concepts"]
    lift = 0.999 * float(concepts["lift"].median())
    tab = visit(view="table", lift=lift, low=0.9, page=1)
    wanted = concepts[(concepts["lift"] >= lift) & (concepts["firing_entropy"] >= 0.9)]["concept_id"]
    assert set(ids(tab)) <= set(wanted)
    assert text(tab, "#count").startswith(f"{len(wanted)} of")
    tab = visit(view="table", kind="dead")
    assert ids(tab) == [DEAD]
    label = str(concepts.loc[2, "top_label"])
    assert (
        ids(visit(view="table", label=label))
        == concepts.loc[concepts["top_label"] == label, "concept_id"].tolist()
    )
    tab = visit(view="table", energy=1e9)
    assert "No concept matches" in text(tab, "#list")
    tab.run("document.getElementById('clear').click()")
    assert len(ids(tab)) == 25


@pytest.mark.parametrize("images", ["toString", "__proto__", "nobody"])
def test_a_link_to_images_of_no_model_shows_those_of_all(visit, images):
    tab = visit(images=images)
    assert cards(tab)
    assert text(tab, "#count")
    assert tab.run("document.querySelectorAll('#list img').length")


def test_search_finds_numbers_and_labels(run, tab, visit):
    visit(view="table")
    tab.run("const q = document.getElementById('q'); q.value = '7'; q.dispatchEvent(new Event('input'))")
    assert ids(tab) == [7]
    assert "q=7" in tab.run("location.hash")
    word = str(run.reports["concepts"].loc[0, "top_label"])
    labels = run.reports["concepts"]["top_label"].fillna("")
    assert set(ids(visit(view="table", q=word.upper()))) == set(
        np.flatnonzero(labels.str.contains(word, regex=False))
    )


def test_cards_by_address_show_the_numbers_of_the_tables(run, visit):
    table = run.reports["concepts"].set_index("concept_id")
    for choice in chosen(run)[:3]:
        tab = visit(concept=choice.concept)
        assert text(tab, "#opened h3") == f"Concept {choice.concept}"
        row = table.loc[choice.concept]
        for name in ("lift", "cofires", "energy"):
            assert text(tab, f"#opened [data-field={name}]") == number(row[name])
        assert text(tab, "#opened [data-field=cofire_proportion_min]") == share(row["cofire_proportion_min"])
        models = run.reports["concept_models"].query("concept_id == @choice.concept").set_index("model")
        names = tab.run("[...document.querySelectorAll('#opened .rows .name')].map((name) => name.textContent)")
        for model, said in zip(MODELS, names[1:], strict=True):
            fires = models.loc[model, "fires"]
            assert f"co-fires {share(models.loc[model, 'cofire_proportion'])} of {number(fires)}" in said


def test_photos_and_heatmaps_are_drawn(tab, visit):
    visit(concept="")
    assert cards(tab)
    width = "(image) => image.decode().then(() => image.naturalWidth)"
    sizes = tab.run(f"Promise.all([...document.querySelectorAll('#list img')].map({width}))")
    assert sizes
    assert min(sizes) > 0
    start = "(heat) => getComputedStyle(heat).backgroundImage.slice(0, 20)"
    assert set(tab.run(f"[...document.querySelectorAll('#list .heat')].map({start})")) == {'url("data:image/png;'}
    photos = "[...document.querySelectorAll('#list img.photo:not(.dim)')]"
    assert tab.run(f"{photos}.every((image) => image.alt.startsWith('image '))")


def test_what_a_concept_started_as_is_drawn(run, visit):
    concept = chosen(run)[0].concept
    tab = visit(concept=concept)
    images = "[...document.querySelectorAll('#opened .started img')]"
    sizes = tab.run(f"Promise.all({images}.map((image) => image.decode().then(() => image.naturalWidth)))")
    assert len(sizes) == 2  # `report.own_images`
    assert tab.run(f"Math.min(...{images}.map((image) => image.getBoundingClientRect().width))") > 40
    ranked = run.reports["exemplars"].query("concept_id == @concept").groupby("ranking")["image"].agg(set)
    before, still = ranked[MODELS[0]], len(ranked[MODELS[0]] & ranked["mean"])
    assert f"{still} of its {len(before)} best images are so still" in text(tab, "#opened .started")


def test_the_slider_fades_heatmaps_and_stays_in_the_address(tab, visit):
    visit(concept="")
    tab.run("const o = document.getElementById('opacity'); o.value = 0.3; o.dispatchEvent(new Event('input'))")
    assert tab.run("getComputedStyle(document.querySelector('.heat')).opacity") == "0.3"
    assert "opacity=0.3" in tab.run("location.hash")


def test_images_by_one_model(run, visit):
    concept = chosen(run)[0].concept
    tab = visit(concept=concept, images="language")
    said = text(tab, "#opened .name")
    assert "highest code in language" in said
    ranked = run.reports["exemplars"].query("concept_id == @concept and ranking == 'language'").sort_values("rank")
    first = tab.run("document.querySelector('#opened .photo').alt")
    assert first.startswith(f"image {ranked['image'].iloc[0]}")


def test_a_concept_of_one_model_says_which_models_never_fire(run, visit):
    choice = next(choice for choice in chosen(run) if choice.owner == "distilled")
    tab = visit(concept=choice.concept)
    names = tab.run("[...document.querySelectorAll('#opened .rows .name')].map((name) => name.textContent)")
    assert "highest code in distilled" in names[0]
    assert "scale 0 to" in names[1 + MODELS.index("distilled")]
    assert [said for said in names if said.endswith("never fires")] == [
        "supervisednever fires",
        "languagenever fires",
    ]


def test_the_heatmaps_scale_stands_beside_cards_only(visit):
    assert visit(view="cards").run("document.getElementById('scale').hidden") is False
    assert visit(view="table").run("document.getElementById('scale').hidden") is True
    assert visit(view="table", concept=0).run("document.getElementById('scale').hidden") is False


def test_a_card_says_why_the_funnel_stops_it(run, tab, tmp_path):
    verdicts = {
        "stops_at": ["stable", *["universal"] * (CONCEPTS - 1)],
        "why": ["found again by 1 of 2", *[None] * (CONCEPTS - 1)],
    }
    judged = run.reports["concepts"].assign(**verdicts)
    tables = {
        "funnel": contrasted.funnel(),
        "controls": contrasted.controls(),
        "stability": contrasted.stability(),
    }
    judged = replace(run, reports=run.reports.having(concepts=judged, **tables))
    page = beside(judged, tmp_path)
    tab.open(f"{page}#concept=0")
    assert text(tab, "#opened .why") == "The funnel stops it at \u201cstable\u201d: found again by 1 of 2."
    assert text(tab, "#opened [data-field=half-1]") == "0.9"
    assert text(tab, "#opened [data-field=half-2]") == "0.8"
    assert text(tab, "#story").endswith("Training adds 4 concepts that come back (95 % interval 4 to 5).")
    tab.open(f"{page}#concept=1")
    assert text(tab, "#opened .why") is None
    assert "passes the funnel" in text(tab, "#opened header")
    tab.open(f"{page}#view=table&sort=id&order=asc")
    assert [cells(tab, concept)[-1] for concept in (0, 1)] == ["stable", "passes"]
    assert [cells(tab, concept)[1] for concept in (0, 1)] == ["shared, not found again", "universal"]
    shown = tab.run("[...document.getElementById('kind').options].map((option) => option.textContent)")
    assert [option.split(" (")[0] for option in shown] == [
        "all", "universal", "shared, not found again", "never fires"
    ]  # fmt: skip
    assert tab.run("document.querySelectorAll('#steps tbody tr').length") == 6
    assert tab.complaints == []


def test_a_card_says_what_it_refines_and_what_refines_it(run, tab, tmp_path):
    """Two coarse concepts; all finer ones but the dead one refine concept 1, the later the better."""
    concepts = run.reports["concepts"]
    numbers, phis = concepts["concept_id"], concepts["concept_id"] / CONCEPTS
    finer = numbers.between(2, DEAD - 1)
    columns = {
        "level": 1 + (numbers > 1),
        "refines": (0 * numbers + 1).where(finer),
        "refines_phi": phis.where(finer),
    }
    page = beside(replace(run, reports=run.reports.having(concepts=concepts.assign(**columns))), tmp_path)
    best = list(range(DEAD - 1, DEAD - 13, -1))
    tab.open(f"{page}#concept=1")
    assert text(tab, "#opened .level") == "level 1"
    listing = ", ".join(f"{concept} {decimals(phis[concept])}" for concept in best)
    assert text(tab, "#opened .finer p") == f"refined by: {listing} and {DEAD - 14} more"
    tab.run("document.querySelector('#opened .finer a').click()")
    tab.wait(f"document.querySelector('#opened h3').textContent === 'Concept {best[0]}'")
    assert text(tab, "#opened .level") == f"level 2, refines 1 {decimals(phis[best[0]])}"
    assert text(tab, "#opened .finer") is None
    tab.run("document.querySelector('#opened .level a').click()")
    tab.wait("document.querySelector('#opened h3').textContent === 'Concept 1'")
    tab.open(f"{page}#concept={DEAD}")
    assert text(tab, "#opened .level") == "level 2, refines none"
    tab.open(f"{page}#view=table&level=1")
    assert sorted(ids(tab)) == [0, 1]
    assert {cells(tab, concept)[-1] for concept in (0, 1)} == {"1"}
    assert tab.complaints == []


def test_the_map_joins_an_open_concept_with_what_it_refines(run, tab, tmp_path):
    """Concepts 4 and 5 refine concept 1, all others nothing."""
    concepts = run.reports["concepts"]
    finer = concepts["concept_id"].isin([4, 5])
    columns = {"level": 1 + (concepts["concept_id"] > 3), "refines": (0 * concepts["concept_id"] + 1).where(finer)}
    page = beside(replace(run, reports=run.reports.having(concepts=concepts.assign(**columns))), tmp_path)
    corners = "(line) => [line.x1, line.y1, line.x2, line.y2].map((end) => end.baseVal.value)"
    ends = f"[...document.querySelectorAll('.family')].map({corners})"
    circle = "document.querySelector('.dot[data-concept=\"{0}\"] circle')"
    centre = f"[{circle}.cx, {circle}.cy].map((end) => end.baseVal.value)"
    for concept, wanted in ((1, [4, 5]), (5, [4, 5]), (2, [])):
        tab.open(f"{page}#view=map&concept={concept}")
        parent, *own = (tab.run(centre.format(number)) for number in (1, *wanted))
        assert tab.run(ends) == [[*one, *parent] for one in own]
        assert tab.run("document.querySelector('.dot.current').dataset.concept") == str(concept)
    radius = f"{circle}.r.baseVal.value"
    assert tab.run(radius.format(1)) > tab.run(radius.format(4))
    assert "large: level 1" in text(tab, ".legend")
    tab.open(f"{page}#view=map")
    assert tab.run(ends) == []
    assert tab.complaints == []


def test_one_level_is_not_mentioned(tab, visit):
    visit(concept=0)
    assert text(tab, "#opened .level") is None
    assert text(tab, "#opened .finer") is None
    assert tab.run("document.getElementById('level').closest('label').hidden")
    assert "level" not in text(visit(view="table"), "thead")


def test_dead_and_unknown_concepts_say_so(visit):
    assert f"Concept {DEAD} never fires" in text(visit(concept=DEAD), "#opened")
    assert f"There is no concept 99999: this dictionary has {CONCEPTS}" in text(visit(concept=99999), "#opened")
    assert "There is no concept <b>" in text(visit(concept="<b>x"), "#opened")


def test_maximised_pictures_and_the_command_that_makes_them(run, visit):
    made, other = chosen(run)[0].concept, chosen(run)[1].concept
    tab = visit(concept=made)
    table = run.reports["maximisation"].query("kind == 'concept' and start == 0 and concept_id == @made")
    tab.wait("document.querySelector('#opened .transfer td') !== null")  # the pictures' file comes after the page
    read = "(cell) => Number(cell.textContent.replace('\u2212', '-'))"
    shown = tab.run(f"[...document.querySelectorAll('#opened .transfer td')].map({read})")
    wanted = table.pivot(index="model", columns="scored_by", values="z").loc[list(MODELS), list(MODELS)]
    np.testing.assert_allclose(shown, wanted.to_numpy().ravel(), atol=0.051)
    assert "1 random directions" in text(tab, "#opened .transfer")
    assert tab.run("document.querySelectorAll('#opened .curve polyline').length") == len(MODELS)
    said = "document.querySelector('#opened .maximise')?.textContent"
    visit(concept=other).wait(f"{said}.includes('maximise.also=[3,{other}]')")


def test_cards_beside_the_page_come_when_they_are_asked_for(run, tab, tmp_path, monkeypatch):
    monkeypatch.setattr("usae.showing.explorer.page.within", lambda later, room: within(later, 0))
    page, ranked = beside(run, tmp_path), ranked_concepts(run.reports["concepts"])
    tab.open(f"{page}#concept={ranked[-1]}")
    tab.wait("document.querySelectorAll('#opened .photo').length > 0")
    assert f"report.concepts={len(ranked)}" in text(tab, "#opened .short")
    (tmp_path / "explorer/cards-01.js").unlink()
    tab.open(f"{page}#concept={ranked[-1]}")
    tab.wait("document.querySelector('#opened').textContent.includes('not beside this page')")
    tab.complaints.clear()  # of the file that is not there


def test_an_image_shows_what_fires_where(run, visit):
    """The concepts of a cell, and the cells of a concept, are those of the codes."""
    concept = chosen(run)[0].concept
    tab = visit(concept=concept)
    tab.run("document.querySelector('#opened a.tile').click()")
    tab.wait("document.querySelectorAll('#image .spot').length > 0")
    image = int(re.search(r"image=(\d+)", tab.run("location.hash"))[1])
    assert text(tab, "#image h3") == f"Image {image}"
    chunks = [run.codes[model].read([image]) for model in MODELS]
    firing = [
        [set(row[codes > 0.1]) for row, codes in zip(c.indices[0], c.values[0], strict=True)] for c in chunks
    ]
    token = max(range(64), key=lambda token: len(firing[0][token]))
    tab.run(f"document.querySelector('#image [data-token=\"{token}\"]').click()")
    spots = "[...document.querySelectorAll('#image .found')].map((row) => [...row.querySelectorAll('.spot')])"
    listed = tab.run(f"{spots}.map((row) => row.map((spot) => Number(spot.dataset.concept)))")
    assert [set(row) for row in listed] == [tokens[token] for tokens in firing]
    tab.run(f"{spots}[0][0].focus()")
    lit = tab.run("[...document.querySelectorAll('#image .lit')].map((cell) => Number(cell.dataset.token))")
    assert lit == [place for place in range(64) if listed[0][0] in firing[0][place]]
    tab.press("Escape")
    assert tab.run("document.getElementById('image')") is None


def test_bands_and_histograms_stand_on_full_cards(run, visit):
    tab = visit(concept=chosen(run)[0].concept)
    assert tab.run("[...document.querySelectorAll('#opened .band')].map((band) => band.dataset.band)") == [
        "top", "middle", "weakest", "random"
    ]  # fmt: skip
    assert tab.run("document.querySelectorAll('#opened .spread').length") == len(MODELS)
    assert tab.run("document.querySelectorAll('#opened .band .heat').length") >= 4


def test_keys_walk_through_the_concepts(run, tab, visit):
    visit(view="cards")
    first, second = cards(tab)[:2]
    tab.press("ArrowRight")
    tab.press("ArrowRight")
    assert text(tab, "#opened h3") == f"Concept {second}"
    tab.press("ArrowLeft")
    assert text(tab, "#opened h3") == f"Concept {first}"
    tab.press("Escape")
    assert tab.run("document.getElementById('opened')") is None
    tab.press("t")
    assert "view=table" in tab.run("location.hash")
    tab.press("r")
    assert re.search(r"concept=\d+", tab.run("location.hash"))


def test_the_map_has_a_point_per_concept_over_two_numbers_of_choice(run, visit):
    concepts, models = run.reports["concepts"], run.reports["concept_models"]
    drawn = "[...document.querySelectorAll('.dot')].map((dot) => Number(dot.dataset.concept))"
    tab = visit(view="map", concept=1)
    wanted = concepts[concepts["lift"].notna() & concepts["energy"].notna()]
    assert sorted(tab.run(drawn)) == sorted(wanted["concept_id"])
    never = (wanted["cofires"] == 0).sum()
    assert text(tab, ".map .said").startswith(f"{len(wanted)} drawn, {never} of them never co-fire")
    box = "document.querySelector('{0}').getBoundingClientRect()"
    assert tab.run(f"{box.format('#opened')}.left >= {box.format('.map')}.right")  # the card stands beside the map
    tab = visit(view="map", x="fires in supervised", y="fires in language")
    assert sorted(tab.run(drawn)) == concepts["concept_id"].tolist()
    fires = models.pivot(index="concept_id", columns="model", values="fires")
    across = tab.run("[...document.querySelectorAll('.dot circle')].map((dot) => dot.cx.baseVal.value)")
    by_place = fires["supervised"].loc[tab.run(drawn)].to_numpy()[np.argsort(across, kind="stable")]
    assert (np.diff(by_place) >= 0).all()


def test_models_that_share_a_concept_are_a_filter(run, tab, visit):
    """Of every set that the plot shows, the filter finds as many concepts, and they are those of the table."""
    visit(view="table")
    tab.run("document.querySelector('.who').open = true")
    marks = "[...document.querySelectorAll('.set')].map((set) => [set.dataset.set, Number(set.textContent)])"
    counts = dict(tab.run(marks))
    assert {*MODELS, "+".join(MODELS)} <= set(counts)
    assert counts["supervised"] == 3  # of its own, by construction
    tab.run("document.querySelector('[data-set=supervised]').click()")
    tab.wait("location.hash.includes('has=supervised')")
    pairs = run.reports["concept_pairs"]
    agreed = set(pairs.loc[(pairs["cofire_proportion"] >= 0.1) & (pairs["model"] == "supervised"), "concept_id"])
    assert len(ids(tab)) == 3
    assert not set(ids(tab)) & agreed
    tab = visit(view="table", has="supervised,language")
    assert text(tab, "#count").startswith(f"{counts['+'.join(MODELS)]} of")
    assert tab.run("document.querySelector('[data-pick=language]').value") == "has"


def test_names_are_the_labels_that_fit_best(run, tab, tmp_path):
    rows = [(0, 0, "colour: green", 0.5), (0, 1, "texture: solid", 0.1), (1, 0, "colour: green", 0.15)]
    labels = pd.DataFrame(rows, columns=["concept_id", "rank", "label", "iou"])
    named = replace(
        run, reports=run.reports.having(concept_labels=labels.assign(precision=0.6, recall=0.7, base=0.1))
    )
    page = beside(named, tmp_path)
    tab.open(f"{page}#concept=0")
    chips = "[...document.querySelectorAll('#opened .label')].map((chip) => chip.textContent)"
    first, second = tab.run(chips)
    assert first == "colour: green precision 60 %, recall 70 %, IoU 0.50, base 10 %"
    assert second == "texture: solid IoU 0.10"
    tab.open(f"{page}#view=table&q=solid GREEN")
    assert ids(tab) == [0]
    tab.open(f"{page}#view=table&q=green&sort=id&order=asc")
    assert ids(tab) == [0, 1]
    faint = "[...document.querySelectorAll('[data-row] .faint')].map((cell) => cell.textContent)"
    assert tab.run(faint) == ["colour: green"]
    lift = run.reports["concepts"].set_index("concept_id")["lift"]
    tab.open(f"{page}#view=table&q=green lift>{(lift[0] + lift[1]) / 2:.6f}")
    assert ids(tab) == [int(lift[[0, 1]].idxmax())]
    options = "[...document.querySelectorAll('#kind option')].map((each) => [each.textContent, each.disabled])"
    assert ["never fires (1)", False] in tab.run(options)
    assert all(disabled == told.endswith("(0)") for told, disabled in tab.run(options)[1:])


def test_near_duplicates_are_marked_in_the_model_where_they_are(run, tab, tmp_path):
    """One concept's direction at a cosine of 0.95 to another's, in one model; a third's at 0.85."""
    same = Run.load(shutil.copytree(run.root, tmp_path / "run"))
    concept, duplicate, close = [choice.concept for choice in chosen(same)][:3]
    sae = same.usae()
    with torch.no_grad():
        rows = sae.part("distilled").dictionary.weight
        one, other = sae.dictionary("distilled")[[concept, duplicate]]
        across = torch.nn.functional.normalize(other - (one @ other) * one, dim=0)
        rows[duplicate], rows[close] = (c * one + (1 - c**2) ** 0.5 * across for c in (0.95, 0.85))
    sae.save_pretrained(same.root / "data/usae")
    tab.open(f"{beside(same, same.root / 'reports')}#concept={concept}")
    lines = tab.run("[...document.querySelectorAll('#opened .near p')].map((line) => line.textContent)")
    assert [line.count("same as") for line in lines] == [0, 0, 1, 0]  # by tokens, then by model
    assert f"0.95same as {duplicate} in distilled" in lines[2]
    assert "0.85" in lines[2]


def test_a_table_is_copied_as_csv(run, tab, tmp_path):
    tables = run.reports.having(repeated=contrasted.repeated())
    (panel,) = (panel for panel in panels(tables, {}) if panel.name == "repeated")
    page = tmp_path / "index.html"
    page.write_text(render(run, [], [replace(panel, header=['a "quoted", name', *panel.header[1:]])], {})[0])
    tab.open(page.as_uri())
    tab.ask("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    button = "document.querySelector('#panel-repeated [data-copy]')"
    tab.run(f"{button}.closest('details').open = true")
    tab.run(f"{button}.click()")
    tab.wait(f"{button}.nextElementSibling.textContent === 'copied'")
    copied = list(csv.reader(tab.run("navigator.clipboard.readText()").splitlines()))
    assert copied == [['a "quoted", name', *panel.header[1:]], *panel.body]
    tab.complaints.clear()  # this page has no maximised pictures


def test_heatmaps_on_a_common_scale_over_colours_and_smooth(run, visit):
    concept = chosen(run)[0].concept
    tab = visit(concept=concept, scale="common", under="colour")
    assert "brightness(0.8)" in tab.run("getComputedStyle(document.querySelector('#opened .photo.dim')).filter")
    said = tab.run("[...document.querySelectorAll('#opened .rows .name')].map((name) => name.textContent)")
    assert len({re.search(r"scale 0 to (\S+)", line)[1] for line in said[1:]}) == 1
    painted = "[...document.querySelectorAll('#opened .rows .heat')].every((heat) => heat.querySelector('canvas'))"
    tab.wait(painted)
    assert tab.run("getComputedStyle(document.querySelector('#opened canvas')).imageRendering") == "pixelated"
    visit(concept=concept, cells="smooth").wait(painted)
    assert tab.run("getComputedStyle(document.querySelector('#opened canvas')).imageRendering") == "auto"
    assert visit(concept=concept).run("document.querySelector('#opened canvas')") is None


def painted_alphas(tab):
    """Of each model's first heatmap the opacity of every cell."""
    pixels = (
        "[...one.getContext('2d').getImageData(0, 0, one.width, one.height).data].filter((_, i) => i % 4 === 3)"
    )
    first = "[...document.querySelectorAll('#opened .row')].slice(1).map((row) => row.querySelector('canvas'))"
    tab.wait(f"{first}.every((one) => one)")
    return np.array(tab.run(f"{first}.map((one) => {pixels})"))


def codes_of_the_first_image(run, concept):
    """(models, cells) of the image that ranks first; and the largest code of each model on the ranked images."""
    frame = run.reports["exemplars"].query("concept_id == @concept and ranking == 'mean'").sort_values("rank")
    images = payload(run)["cards"][str(concept)]["rankings"]["mean"]["images"]
    assert images[0] == frame["image"].iloc[0]
    chunks = [store.read(images) for store in run.codes.values()]
    dense = np.array([(chunk.values * (chunk.indices == concept)).sum(axis=-1) for chunk in chunks])
    return dense[:, 0], dense.max(axis=(1, 2))


def test_painted_cells_are_those_that_have_a_code(run, visit):
    concept = chosen(run)[0].concept
    codes, _ = codes_of_the_first_image(run, concept)
    painted = painted_alphas(visit(concept=concept, cells="smooth"))
    np.testing.assert_array_equal(painted > 0, codes > 0)
    order = np.argsort(codes[0])
    assert (np.diff(painted[0][order].astype(int)) >= 0).all()


def point_at(tab, cell, grid):
    """A cell of the first model's first heatmap, until the hint comes: what arrives late draws the cards again."""
    tile = "document.querySelectorAll('#opened .row')[1].querySelector('.tile')"
    scroll = "document.querySelector('#opened .rows').scrollIntoView({ block: 'center', behavior: 'instant' })"
    later = "new Promise((seen) => setTimeout(() => seen(!document.querySelector('.hint').hidden), 100))"
    for moves in range(100):
        tab.run(scroll)
        left, top, side = (tab.run(f"{tile}.getBoundingClientRect().{edge}") for edge in ("left", "top", "width"))
        x, y = left + side * (cell % grid + 0.5) / grid, top + side * (cell // grid + 0.5) / grid
        tab.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x + moves % 2, y=y)
        if tab.run(later):
            return
    raise AssertionError("nothing was said of the cell")


def test_the_pointer_reads_a_cell_in_every_row(run, visit):
    concept = chosen(run)[0].concept
    codes, peaks = codes_of_the_first_image(run, concept)
    cell, grid = int(codes[0].argmax()), run.params.extract.grid
    tab = visit(concept=concept)
    point_at(tab, cell, grid)
    lines = tab.run("[...document.querySelectorAll('.hint .code')].map((line) => line.lastChild.textContent)")
    read = [0.0 if line == "none" else float(line.removeprefix("about ")) for line in lines]
    assert text(tab, ".hint p") == f"code at cell {cell % grid + 1}, {cell // grid + 1} (column, row)"
    np.testing.assert_allclose(read, codes[:, cell], atol=float(peaks.max()) * (1 / 30 + 0.06))
    tab.ask("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
    tab.wait("document.querySelector('.hint').hidden")


def test_an_opened_card_lies_below_the_controls_and_once(run, visit):
    concept = chosen(run)[0].concept
    tab = visit(concept=concept)
    edge = "document.querySelector('{0}').getBoundingClientRect()"
    tab.wait(f"{edge.format('.bar')}.top >= {edge.format('.controls')}.bottom - 1")
    assert concept not in cards(tab)
    assert tab.run("[...document.querySelectorAll('#opened .take button')].map((one) => one.textContent)") == [
        "copy link", "copy for pandas", "JSON", "CSV"
    ]  # fmt: skip
    assert visit(concept=99999).run("document.title").startswith("No concept 99999")
    tab.press("?")
    assert tab.run("document.querySelector('.help').open")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_the_screen_and_text_can_be_read(run, written, screen, width, dark):
    tab, concept = screen(width, dark), chosen(run)[0].concept
    for state in ("", "#view=table", f"#view=map&concept={concept}", f"#concept={DEAD}", "#image=3"):
        tab.open(written.as_uri() + state)
        assert tab.run("document.documentElement.scrollWidth") <= width
    tab.open(f"{written.as_uri()}#concept={concept}")
    explained = "[...document.querySelectorAll('#opened .tip')].map((tip) => (tip.focus(), scroll_width()))"
    tab.run("window.scroll_width = () => document.documentElement.scrollWidth")
    assert max(tab.run(explained)) <= width
    assert tab.run("matchMedia('(prefers-color-scheme: dark)').matches") == dark
    ink, paper = tab.run(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert _contrast(ink, paper) > 7
    tab.complaints.clear()  # this page has no maximised pictures


def test_nothing_was_asked_of_a_network_and_nothing_complained(tab, visit):
    visit(view="table")
    assert tab.requests
    assert {address.split(":")[0] for address in tab.requests} <= {"file", "data", "about"}
    assert tab.complaints == []


def _contrast(one, two):
    """WCAG's contrast of two rgb(...) colours."""

    def luminance(colour):
        parts = np.array([float(part) for part in re.findall(r"[\d.]+", colour)[:3]]) / 255
        linear = np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)
