"""The page of methods in a real browser, from disk, without a network."""

import pandas as pd
import pytest

from tests.support import compared as tables
from tests.support.chromium import Tab, browser
from tests.support.synthetic_run import MODELS
from usae.showing.comparison.page import render
from usae.showing.explorer.opening import judgement
from usae.showing.figures import method_pictures
from usae.showing.results.compared import Compared
from usae.showing.results.reports import Reports

pytestmark = pytest.mark.skipif(
    browser() is None, reason="no Chromium on this machine (apt-get install chromium, or set $CHROMIUM)"
)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    frames = {"methods": tables.methods(), "method_funnel": tables.funnel(), "method_sharing": tables.sharing()}
    compared = Compared.of(Reports(frames, {}))
    drawn = method_pictures(compared, pd.DataFrame())
    files = {picture.name: picture.save(folder)[0] for picture in drawn}
    (folder / "methods.html").write_text(
        render(compared, MODELS, drawn, files, judgement(pd.DataFrame())), encoding="utf-8"
    )
    return (folder / "methods.html").as_uri()


@pytest.fixture(scope="module")
def tab(address):
    with Tab(browser()) as tab:
        tab.open(address)
        yield tab


def shown(tab, selector):
    """Texts of the elements that take up room."""
    seen = f"[...document.querySelectorAll('{selector}')].filter((each) => each.checkVisibility())"
    return tab.run(f"{seen}.map((each) => each.textContent.trim())")


def column(tab, name, block):
    place = (
        f"[...document.querySelectorAll('#quality thead th')].findIndex((each) => each.dataset.name === '{name}')"
    )
    rows = f"[...document.querySelectorAll('#quality > tbody[data-block=\"{block}\"] > tr:not(.block)')]"
    return tab.run(f"{rows}.map((row) => row.cells[{place}].textContent.trim())")


def names(tab, block):
    rows = f"[...document.querySelectorAll('#quality > tbody[data-block=\"{block}\"] > tr:not(.block)')]"
    return tab.run(f"{rows}.map((row) => row.dataset.method)")


def choose(tab, mode):
    tab.run(f"document.getElementById('mode-{mode}').click()")


def test_nothing_is_asked_of_the_network_and_nothing_complains(tab, address):
    assert {request for request in tab.requests if not request.startswith(("data:", "about:"))} == {address}
    assert tab.complaints == []


def test_the_switch_changes_the_columns_and_the_warning(tab):
    heads = {"single": "cross R²", "others": "R² from all others", "joint": "R² sees the target"}
    for mode, head in heads.items():
        choose(tab, mode)
        titles = shown(tab, "#quality > thead th")
        assert [title for title in titles if title in heads.values()] == [head]
        (warning,) = shown(tab, ".warning")
        assert warning.lower().startswith(mode)
    assert warning.endswith("A win here is no win.")
    choose(tab, "all")
    assert set(heads.values()) <= set(shown(tab, "#quality > thead th"))
    assert len(shown(tab, ".warning")) == 3
    choose(tab, "single")


def test_the_switch_and_the_details_need_no_script(address):
    with Tab(browser()) as tab:
        tab.ask("Emulation.setScriptExecutionDisabled", value=True)
        tab.ask("Page.navigate", url=address)
        tab.wait("document.querySelectorAll('#sharing td').length > 0")
        choose(tab, "joint")
        assert "R² sees the target" in shown(tab, "#quality > thead th")
        assert "cross R²" not in shown(tab, "#quality > thead th")
        assert shown(tab, ".filter") == []
        tab.run("document.querySelector('tr[data-method=sparc] details').open = true")
        assert "from supervised" in shown(tab, "tr[data-method=sparc] .inside th")


def test_headings_sort_within_their_block(tab):
    before = names(tab, "bounds"), names(tab, "joint")
    tab.run("document.querySelector('#quality th[data-name=shared] button').click()")
    values = [int(text) for text in column(tab, "shared", "joint")]
    assert values == sorted(values, reverse=True)
    assert names(tab, "bounds") == before[0]  # dashes stay as they are
    tab.run("document.querySelector('#quality th[data-name=shared] button').click()")
    assert [int(text) for text in column(tab, "shared", "joint")] == sorted(values)
    assert names(tab, "joint")[0] == "crosscoder (masked)"
    tab.run("document.querySelector('#quality th[data-name=start] button').click()")
    assert column(tab, "start", "without training")[-1] == "\u2013"
    assert tab.complaints == []


def test_a_block_can_be_left_out(tab):
    box = "document.querySelector('.filter input[value=\"as published\"]')"
    tab.run(f"{box}.click()")
    assert shown(tab, "tr[data-method=usae_published]") == []
    assert shown(tab, "tr[data-method=usae]")
    tab.run(f"{box}.click()")
    assert shown(tab, "tr[data-method=usae_published]")


def test_a_row_opens_to_its_matrix(tab):
    assert shown(tab, "tr[data-method=usae] .inside td") == []
    tab.run("document.querySelector('tr[data-method=usae] summary').click()")
    assert shown(tab, "tr[data-method=usae] .inside td.number")[:3] == ["0.86", "0.36", "0.40"]
    tab.run("document.querySelector('tr[data-method=usae] summary').click()")


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_the_page_without_sideways_scrolling(address, dark):
    with Tab(browser(), 390, 844, dark) as tab:
        tab.open(address)
        assert tab.run("document.documentElement.scrollWidth") == 390
        widths = "[...document.images].map((image) => image.decode().then(() => image.naturalWidth))"
        assert min(tab.run(f"Promise.all({widths})")) > 0
        assert tab.complaints == []
