"""The page in a real browser, from disk, without a network: what a reader sees is what the tables say."""

import re
import urllib.parse
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.support import contrasted
from tests.support.chromium import Tab, browser
from tests.support.synthetic_run import CONCEPTS, MODELS, maximised_run, synthetic_run
from usae.showing.explorer import write_report
from usae.showing.explorer.cards import chosen
from usae.showing.explorer.wording import decimals, number, share

pytestmark = pytest.mark.skipif(
    browser() is None, reason="no Chromium on this machine (apt-get install chromium, or set $CHROMIUM)"
)
DEAD = CONCEPTS - 1


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = synthetic_run(tmp_path_factory.mktemp("run"))
    return maximised_run(run, [chosen(run)[0].concept])


@pytest.fixture(scope="module")
def address(run, tmp_path_factory):
    return write_report(run, tmp_path_factory.mktemp("reports")).as_uri()


@pytest.fixture(scope="module")
def tab(address):
    with Tab(browser()) as tab:
        tab.open(address)
        yield tab


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


def test_a_card_says_why_the_funnel_stops_it(run, tmp_path):
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
    page = write_report(judged, tmp_path).as_uri()
    with Tab(browser()) as tab:
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
        assert shown == ["all", "universal", "shared, not found again", "never fires"]
        assert tab.run("document.querySelectorAll('#steps tbody tr').length") == 6
        assert tab.complaints == []


def test_a_card_says_what_it_refines_and_what_refines_it(run, tmp_path):
    """Two coarse concepts; all finer ones but the dead one refine concept 1, the later the better."""
    concepts = run.reports["concepts"]
    numbers, phis = concepts["concept_id"], concepts["concept_id"] / CONCEPTS
    finer = numbers.between(2, DEAD - 1)
    columns = {
        "level": 1 + (numbers > 1),
        "refines": (0 * numbers + 1).where(finer),
        "refines_phi": phis.where(finer),
    }
    page = write_report(replace(run, reports=run.reports.having(concepts=concepts.assign(**columns))), tmp_path)
    best = list(range(DEAD - 1, DEAD - 13, -1))
    with Tab(browser()) as tab:
        tab.open(f"{page.as_uri()}#concept=1")
        assert text(tab, "#opened .level") == "level 1"
        listing = ", ".join(f"{concept} {decimals(phis[concept])}" for concept in best)
        assert text(tab, "#opened .finer p") == f"refined by: {listing} and {DEAD - 14} more"
        tab.run("document.querySelector('#opened .finer a').click()")
        tab.wait(f"document.querySelector('#opened h3').textContent === 'Concept {best[0]}'")
        assert text(tab, "#opened .level") == f"level 2, refines 1 {decimals(phis[best[0]])}"
        assert text(tab, "#opened .finer") is None
        tab.run("document.querySelector('#opened .level a').click()")
        tab.wait("document.querySelector('#opened h3').textContent === 'Concept 1'")
        tab.open(f"{page.as_uri()}#concept={DEAD}")
        assert text(tab, "#opened .level") == "level 2, refines none"
        tab.open(f"{page.as_uri()}#view=table&level=1")
        assert sorted(ids(tab)) == [0, 1]
        assert {cells(tab, concept)[-1] for concept in (0, 1)} == {"1"}
        assert tab.complaints == []


def test_the_map_joins_an_open_concept_with_what_it_refines(run, tmp_path):
    """Concepts 4 and 5 refine concept 1, all others nothing."""
    concepts = run.reports["concepts"]
    finer = concepts["concept_id"].isin([4, 5])
    columns = {"level": 1 + (concepts["concept_id"] > 3), "refines": (0 * concepts["concept_id"] + 1).where(finer)}
    page = write_report(replace(run, reports=run.reports.having(concepts=concepts.assign(**columns))), tmp_path)
    corners = "(line) => [line.x1, line.y1, line.x2, line.y2].map((end) => end.baseVal.value)"
    ends = f"[...document.querySelectorAll('.family')].map({corners})"
    circle = "document.querySelector('.dot[data-concept=\"{0}\"] circle')"
    centre = f"[{circle}.cx, {circle}.cy].map((end) => end.baseVal.value)"
    with Tab(browser()) as tab:
        for concept, wanted in ((1, [4, 5]), (5, [4, 5]), (2, [])):
            tab.open(f"{page.as_uri()}#view=map&concept={concept}")
            parent, *own = (tab.run(centre.format(number)) for number in (1, *wanted))
            assert tab.run(ends) == [[*one, *parent] for one in own]
            assert tab.run("document.querySelector('.dot.current').dataset.concept") == str(concept)
        radius = f"{circle}.r.baseVal.value"
        assert tab.run(radius.format(1)) > tab.run(radius.format(4))
        assert "large: level 1" in text(tab, ".legend")
        tab.open(f"{page.as_uri()}#view=map")
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
    read = "(cell) => Number(cell.textContent.replace('\u2212', '-'))"
    shown = tab.run(f"[...document.querySelectorAll('#opened .transfer td')].map({read})")
    wanted = table.pivot(index="model", columns="scored_by", values="z").loc[list(MODELS), list(MODELS)]
    np.testing.assert_allclose(shown, wanted.to_numpy().ravel(), atol=0.051)
    assert "1 random directions" in text(tab, "#opened .transfer")
    assert tab.run("document.querySelectorAll('#opened .curve polyline').length") == len(MODELS)
    assert f"maximise.ids=[{other}]" in text(visit(concept=other), "#opened .maximise")


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


def test_the_map_has_a_point_per_concept(run, visit):
    tab = visit(view="map")
    concepts = run.reports["concepts"]
    wanted = concepts[(concepts["lift"] > 0) & (concepts["energy"] > 0)]["concept_id"]
    found = tab.run("[...document.querySelectorAll('.dot')].map((dot) => Number(dot.dataset.concept))")
    assert sorted(found) == sorted(wanted)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_the_screen_and_text_can_be_read(run, address, width, dark):
    with Tab(browser(), width=width, dark=dark) as tab:
        for state in ("", "#view=table", "#view=map", f"#concept={DEAD}"):
            tab.open(address + state)
            assert tab.run("document.documentElement.scrollWidth") <= width
        tab.open(f"{address}#concept={chosen(run)[0].concept}")
        explained = "[...document.querySelectorAll('#opened .tip')].map((tip) => (tip.focus(), scroll_width()))"
        tab.run("window.scroll_width = () => document.documentElement.scrollWidth")
        assert max(tab.run(explained)) <= width
        assert tab.run("matchMedia('(prefers-color-scheme: dark)').matches") == dark
        ink, paper = tab.run(
            "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        )
        assert _contrast(ink, paper) > 7


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
