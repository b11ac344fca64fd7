"""The page: offline, valid, and its numbers are those of the tables (a browser looks in test_browser.py)."""

import base64
import io
import json
import re
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tests.support import contrasted
from tests.support.html_page import Page, assert_offline
from tests.support.synthetic_run import CONCEPTS, MODELS, maximised_run, synthetic_run
from usae.common.errors import UserError
from usae.evidence.codes.store import aligned_chunks
from usae.showing.commands import figures
from usae.showing.explorer import write_report
from usae.showing.explorer.album import Album
from usae.showing.explorer.bands import BINS, band_images, firing_images, histograms, make_bands
from usae.showing.explorer.cards import STRIP, chosen, images_of, make_cards, ranked_concepts
from usae.showing.explorer.charts import chart_uri, dark_style
from usae.showing.explorer.image_files import LOUDEST, QUIET, image_files, large_photo, plane_bits
from usae.showing.explorer.neighbours import Cofiring, near_directions, random_nearest
from usae.showing.explorer.overview import code_version, tiles
from usae.showing.explorer.page import payload, render
from usae.showing.explorer.panels import LAYOUTS, make_panel, panels, two_digits
from usae.showing.explorer.parts import FILE_BYTES, places, split, within
from usae.showing.explorer.payload import half_columns, half_tips, tips
from usae.showing.explorer.story import NOTHING, added, story
from usae.showing.explorer.wording import decimals, number, share
from usae.showing.figures import pictures
from usae.showing.figures.chosen_concepts import heatmap_picture, maximised_picture
from usae.showing.figures.theme import sentence
from usae.showing.maximisation.on_page import page_pictures
from usae.showing.results.reports import Reports
from usae.showing.results.run import Run
from usae.showing.scripts import plain, script_text

ROOT = Path(__file__).parents[3]
DEAD = CONCEPTS - 1


def with_tables(run, **tables):
    return replace(run, reports=run.reports.having(**tables))


def data_of(page):
    parts = [
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))
        for text in re.findall(r'<script type="application/json" id="\w+">(.*?)</script>', page, re.DOTALL)
    ]
    first, rest = parts
    return first | {name: first[name] | rest[name] for name in ("cards", "photos")} | {"files": rest["files"]}


@pytest.fixture(scope="module")
def data(text):
    return data_of(text)


def test_the_page_refers_to_nothing_outside_and_to_no_methods_where_none_were_compared(text, page):
    assert_offline(text, page)
    assert '<a href="methods.html">' not in text


def test_every_image_says_what_it_shows(page):
    images = [attrs for tag, attrs in page.elements if tag == "img"]
    assert images
    assert all(attrs.get("alt", "").strip() for attrs in images)


def test_every_concept_is_in_the_table_with_its_numbers(run, data):
    concepts, models = run.reports["concepts"], run.reports["concept_models"]
    assert data["concepts"]["id"] == concepts["concept_id"].tolist()
    for column in data["columns"]:
        found = np.array(data["concepts"][column["name"]], dtype=float)
        np.testing.assert_allclose(found, concepts[column["name"]].astype(float), rtol=1e-4)
    for model in MODELS:
        found = np.array(data["perModel"][model]["cofire_proportion"], dtype=float)
        wanted = models[models["model"] == model]["cofire_proportion"].to_numpy(float)
        np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_columns_say_what_they_are_a_share_of(data):
    found = {column["name"]: column["tip"] for column in data["columns"]}
    assert "denominator: fires of the model with the most fires" in found["cofire_proportion_min"]
    columns = tips({"fires": "", "firing_rate": ""}, {"fires": "f", "firing_rate": "r", "absent": "a"})
    assert [column["share"] for column in columns] == [False, True]


def test_every_concept_that_fires_has_pictures(run, data):
    choices = chosen(run)
    assert len(choices) == 5 + len(MODELS)
    assert list(data["cards"])[: len(choices)] == [str(choice.concept) for choice in choices]
    alive = run.reports["concepts"].query("alive")["concept_id"]
    assert set(data["cards"]) == set(map(str, alive))
    ranked = ranked_concepts(run.reports["concepts"])
    for concept, card in list(data["cards"].items())[len(choices) :]:
        assert 0 < len(card["rankings"]["mean"]["images"]) <= STRIP
        assert ranked[card["place"] - 1] == int(concept)
        assert card["place"] > 5  # `report.concepts`: so many full cards would not be enough
    for choice in choices:
        card = data["cards"][str(choice.concept)]
        assert card["owner"] == choice.owner
        for ranking, view in card["rankings"].items():
            ranked = run.reports["exemplars"].query("concept_id == @choice.concept and ranking == @ranking")
            assert len(view["images"]) <= (4 if ranking == "mean" else 2)
            assert set(view["images"]) <= set(ranked["image"])
            assert np.max(view["tops"]) == pytest.approx(max(view["peaks"]))
            assert {str(image) for image in view["images"]} <= set(data["photos"])


def test_a_card_shows_what_it_started_as(run):
    """Two best images before the first step: one that is among the best still, one that is so in a model alone."""
    concept, other = (choice.concept for choice in chosen(run)[:2])
    exemplars = run.reports["exemplars"].query("ranking == 'mean'").set_index("concept_id")["image"]
    stranger = next(image for image in exemplars[other] if image not in set(exemplars[concept]))
    images = [int(stranger), int(exemplars[concept].iloc[0])]
    before = pd.DataFrame({"concept_id": concept, "rank": [0, 1], "image": images, "code": [2.0, 1.0]})
    own = {"concept_id": concept, "ranking": MODELS[0], "rank": 99, "image": stranger, "code": 0.1}
    ranked = pd.concat([run.reports["exemplars"], pd.DataFrame([own])], ignore_index=True)
    data = payload(replace(run, reports=run.reports.having(start_exemplars=before, exemplars=ranked)))
    assert data["cards"][str(concept)]["started"] == {"images": images, "kept": 1, "of": 2}
    assert data["cards"][str(other)]["started"] is None
    assert {str(image) for image in images} <= set(data["photos"])
    first, _ = split(data, 1)
    assert {str(image) for image in images} <= set(first["photos"])


def test_the_first_cards_come_first(run):
    data = payload(run)
    first, later = split(data, 3)
    assert list(first["cards"]) == list(data["cards"])[:3]
    assert first["cards"] | later.cards == data["cards"]
    assert first["photos"] | later.photos == data["photos"]
    assert not set(first["photos"]) & set(later.photos)


def test_what_the_page_has_no_room_for_lies_beside_it(run, monkeypatch):
    """Every card is in one place, with all its photos there or in the page; the page keeps to its room."""
    data = payload(run)
    first, later = split(data, 3)
    whole, nothing = within(later, 10**9)
    assert (whole.content, nothing) == (later.content, [])
    monkeypatch.setattr("usae.showing.explorer.parts.FILE_BYTES", FILE_BYTES // 400)
    room = 40_000
    page, beside = within(later, room)
    assert len(script_text(page.content)) <= 1.01 * room
    assert len(beside) > 1
    assert [*page.cards, *(concept for part in beside for concept in part.cards)] == list(later.cards)
    assert set(places(beside)) == set(later.cards) - set(page.cards)
    for part in (page, *beside):
        have = first["photos"] | page.photos | part.photos
        assert {str(image) for image in images_of(part.cards)} <= set(have)


def codes_and_places(packed, models, tokens, k):
    """Codes and concepts, each (models, tokens, k), as the page's script reads them."""
    parts = np.frombuffer(zlib.decompress(base64.b64decode(packed["codes"])), np.uint8).reshape(
        2, models, tokens, k
    )
    share = (parts[1].astype(float) - QUIET - 1) / (LOUDEST - QUIET - 1)
    peaks = np.array(packed["peaks"])[:, None, None]
    return np.where(parts[1] > QUIET, 0.1 + (peaks - 0.1) * share**2, 0.1 * parts[1] / QUIET), parts[0]


def test_files_beside_the_page_hold_the_codes_of_images(run):
    album, images = Album(run.index, 16, "squash"), [3, 40]
    (content,) = image_files(run.codes, album, images, 0.1, 10**7)
    assert list(content["images"]) == ["3", "40"]
    for image, packed in content["images"].items():
        chunks = [run.codes[model].read([int(image)]) for model in MODELS]
        wanted = np.stack([chunk.values[0] for chunk in chunks])
        codes, places = codes_and_places(packed, *wanted.shape)
        np.testing.assert_array_equal(places, np.stack([chunk.indices[0] for chunk in chunks]))
        np.testing.assert_array_equal(codes > 0.1, wanted > np.float32(0.1))
        np.testing.assert_allclose(codes, wanted, atol=0.01 * wanted.max())
        assert packed["photo"].startswith("data:image/webp")
    assert large_photo(Album(run.index, 256, "squash"), 3) is None
    assert list(image_files(run.codes, album, images, 0.1, 100)) == []
    assert [plane_bits(concepts) for concepts in (2, 256, 257, 65_536, 65_537)] == [8, 8, 16, 16, 24]


def test_bands_are_of_all_images_on_which_a_concept_fires(run):
    concept = chosen(run)[0].concept
    counted = firing_images(run.codes, [concept], np.float32([6.0]), 0.1)
    chunks = [run.codes[model].read(range(48)) for model in MODELS]
    dense = np.stack([np.where((c.indices == concept) & (c.values > 0.1), c.values, 0).sum(-1) for c in chunks])
    peaks = dense.max(axis=2).mean(axis=0)  # (images,)
    images, codes = counted.ranked(0)
    np.testing.assert_allclose(codes, np.sort(peaks[peaks > 0])[::-1])
    np.testing.assert_allclose(peaks[images], codes)
    bins = np.minimum(dense[dense > 0] / 6.0 * BINS, BINS - 1).astype(int)
    np.testing.assert_array_equal(counted.counts[:, 0].sum(0), np.bincount(bins, minlength=BINS))
    bands = band_images(np.arange(100), concept, 0)
    assert (bands["middle"][:3], bands["weakest"][:2]) == ([50, 49, 51], [99, 98])
    assert bands == band_images(np.arange(100), concept, 0)
    assert bands["random"] != band_images(np.arange(100), concept, 1)["random"]
    shown = make_bands(run.codes, counted, {concept: images.tolist()}, Album(run.index, 16, "squash"), 0)[concept]
    assert shown["of"] == len(images)
    order = [image for band in shown["images"].values() for image in band]
    np.testing.assert_allclose(shown["codes"], dense.mean(axis=0).max(axis=1)[order], rtol=1e-5)
    assert histograms(counted)[concept]["counts"] == counted.counts[:, 0].tolist()


def test_heat_sheets_hold_the_codes(run):
    concept = chosen(run)[0].concept
    view = make_cards(run, Album(run.index, 16, "squash"))[str(concept)]["rankings"]["mean"]
    chunk = run.codes["distilled"].read([view["images"][0]])
    cells = np.where(chunk.indices == concept, chunk.values, 0).sum(axis=-1).reshape(8, 8)
    picture = Image.open(io.BytesIO(base64.b64decode(view["heat"].split(",")[1])))
    assert picture.size == (len(view["images"]) * 8, len(MODELS) * 8)
    levels = np.asarray(picture)[8:16, :8]
    assert np.array_equal(levels > 0, cells > 0)
    np.testing.assert_allclose(levels / 15 * view["peaks"][1], cells, atol=0.067 * view["peaks"][1])


def test_no_nan_reaches_the_page(page, data):
    assert not re.search(r"\b(nan|NaN|None|inf)\b", " ".join(page.words))
    assert data["concepts"]["cofire_proportion_min"][DEAD] is None
    assert plain(pd.Series([1.0, np.nan, np.inf, 123456.0])) == [1.0, None, None, 123456.0]
    assert plain(pd.Series([True, None], dtype="boolean")) == [True, None]
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_text({"a": float("nan")})


def test_summary_tiles(run):
    own, across = tiles(run.reports, MODELS)
    assert (own.value, across.value) == ("66 %", "33 %")
    assert own.meaning == "of a model's held-out variance is explained by its own codes (mean R²)"
    reconstruction = run.reports["reconstruction"].assign(r2_ridge=0.4)
    start = reconstruction[reconstruction["sae"] == "usae"].assign(sae="start", r2_channel=-0.1)
    both = run.reports.having(reconstruction=pd.concat([reconstruction, start]))
    _, across, linear = tiles(both, MODELS)
    assert across.meaning.endswith("(mean R²); before the first step \u22120.10")
    assert (linear.value, linear.meaning[:41]) == ("40 %", "of it is explained by the best linear map")


def test_a_negative_r2_is_worse_than_the_mean_and_no_share(run):
    reconstruction = run.reports["reconstruction"].assign(r2_channel=-1.59)
    own, across = tiles(run.reports.having(reconstruction=reconstruction), MODELS)
    assert own.value == across.value == "worse than the mean"
    assert own.meaning.startswith("R² \u22121.59: nothing of a model's held-out variance")


def test_the_story_says_what_training_adds(run):
    elsewhere = pd.DataFrame({"run": ["seed-1", "half-1"], "measure": "shared", "adds": [5.0, -1.0]})
    controls = pd.concat([contrasted.controls(), elsewhere], ignore_index=True)
    tables = run.reports.having(funnel=contrasted.funnel(), controls=controls)
    assert story(tables, MODELS) == [
        "All 3 models share 28 concepts (median agreement 15 %); 5 of them come back in both halves of the images",
        "Before the first step it is 25 and 1",
        f"The difference is 3 shared concepts (95 % interval 0 to 8): {NOTHING}",
        "Training adds 4 concepts that come back (95 % interval 4 to 5)",
        "In further SAEs, in shared concepts: 5 (another seed, 1), \u22121 (half of the images, 1)",
    ]
    page = Page(render(replace(run, reports=tables), [], [], {})[0])
    assert f"{'. '.join(story(tables, MODELS))}." in page.words
    assert story(run.reports, MODELS) == []
    funnel = contrasted.funnel()
    early = tables.having(funnel=funnel[~funnel["start"] & (funnel["step"] != "stable")], controls=pd.DataFrame())
    assert story(early, MODELS) == ["All 3 models share 28 concepts (median agreement 15 %)"]


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        ((-2.0, 9.0), f"The difference is 3 shared concepts (95 % interval \u22122 to 9): {NOTHING}"),
        ((0.0, 9.0), f"The difference is 3 shared concepts (95 % interval 0 to 9): {NOTHING}"),
        ((0.04, 9.0), f"The difference is 3 shared concepts (95 % interval 0 to 9): {NOTHING}"),
        ((0.475, 9.025), "Training adds 3 shared concepts (95 % interval 0.5 to 9)"),
        ((np.nan, np.nan), "Training adds 3 shared concepts; over the images this was not resampled"),
    ],
)
def test_an_interval_that_contains_0_says_that_training_adds_nothing(interval, text):
    assert added("shared concepts", 3.0, *interval) == text


def test_training_may_take_away():
    text = "Training adds \u22123 shared concepts (95 % interval \u22125 to \u22121)"
    assert added("shared concepts", -3.0, -5.0, -1.0) == text


def test_cards_and_table_have_the_correlations_with_the_halves(run):
    table = contrasted.stability()
    assert [(column["name"], column["label"]) for column in half_tips(table)] == [
        ("half-1", "in half of the images, 1"),
        ("half-2", "in half of the images, 2"),
    ]
    columns = half_columns(table, run.reports["concepts"])
    assert columns["half-1"][:4] == [0.9, 0.8, 0.75, None]
    assert columns["half-2"][:4] == [0.8, 0.3, 0.2, None]
    assert [len(column) for column in columns.values()] == [CONCEPTS, CONCEPTS]
    assert half_tips(run.reports["stability"]) == []
    data = payload(with_tables(run, stability=table))
    assert [column["name"] for column in data["columns"]][-2:] == ["half-1", "half-2"]
    assert data["concepts"]["half-2"][:3] == [0.8, 0.3, 0.2]


def test_levels_are_told_where_there_are_several(run):
    flat = payload(run)
    assert not {"level", "refines", "refines_phi"} & set(flat["concepts"])
    assert "level" not in [column["name"] for column in flat["columns"]]
    concepts = run.reports["concepts"].assign(level=2, refines=1.0, refines_phi=0.25)
    concepts.loc[:1, ["level", "refines", "refines_phi"]] = [1, np.nan, np.nan]
    two = with_tables(run, concepts=concepts)
    found = payload(two)
    assert found["columns"][-1]["label"] == "level"
    assert found["concepts"]["level"] == [1, 1] + [2] * (CONCEPTS - 2)
    assert found["concepts"]["refines"] == [None, None] + [1] * (CONCEPTS - 2)
    assert found["concepts"]["refines_phi"] == [None, None] + [0.25] * (CONCEPTS - 2)
    assert isinstance(found["concepts"]["refines"][2], int)
    assert "<b>Levels</b>" in render(two, [], [], {})[0]
    assert "<b>Levels</b>" not in render(run, [], [], {})[0]


def test_charts_follow_the_scheme_of_the_page(tmp_path):
    path = sentence("none", "No concept fires", "Train longer.").save(tmp_path)[0]
    svg = base64.b64decode(chart_uri(path).split(",")[1]).decode()
    assert "prefers-color-scheme" not in path.read_text()  # files are for papers
    assert svg.count("<style>@media (prefers-color-scheme: dark)") == 1
    used = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", path.read_text()))
    assert used
    assert used <= set(re.findall(r": (#[0-9a-f]{6})", dark_style()))
    hollow = re.search(r'use\[style\*="fill: #ffffff"\]\{fill:(#[0-9a-f]{6})', dark_style())[1]
    assert hollow in dark_style().partition("stroke: #ffffff")[2]  # the colour of the card, as a white rim's


def test_the_same_run_gives_the_same_files(run, written, tmp_path):
    again = write_report(run, tmp_path)
    assert again.read_bytes() == written.read_bytes()
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {path.name for path in (written.parent / "figures").iterdir()}
    assert {"concepts.svg", "concepts.png", "r2_matrix.svg"} <= names


def test_the_code_version_is_that_of_code_and_settings(tmp_path):
    def git(*command):
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *command], cwd=tmp_path, check=True
        )

    assert code_version(tmp_path) == "\u2013"
    (tmp_path / "params.yaml").write_text("k: 1")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "code"]):
        git(*command)
    first = code_version(tmp_path)
    assert re.fullmatch(r"[0-9a-f]{7,}, \d{4}-\d\d-\d\d", first)
    (tmp_path / "dvc.lock").write_text("a run")
    for command in (["add", "-A"], ["commit", "-qm", "a run"]):
        git(*command)
    assert code_version(tmp_path) == first
    (tmp_path / "params.yaml").write_text("k: 2")
    assert code_version(tmp_path) == f"{first}, with local changes"


def test_maximised_images_stand_beside_their_transfer(tmp_path):
    run = maximised_run(synthetic_run(tmp_path), [0, 4])
    table = run.reports["maximisation"]
    shown = page_pictures(table, run.maximised, MODELS, (4,))
    first = table.query("kind == 'concept' and start == 0")
    assert set(shown["cells"]) == {"0", "4"}
    for concept, cell in shown["cells"].items():
        assert all(cell["pictures"][model].startswith("data:image/webp") for model in MODELS)
        wanted = first[first["concept_id"] == int(concept)].pivot(index="model", columns="scored_by", values="z")
        np.testing.assert_allclose(cell["z"], wanted.loc[list(MODELS), list(MODELS)], rtol=1e-4)
        assert cell["real_images"] == 2
    assert (shown["control"]["directions"], shown["also"]) == (1, [4])
    assert page_pictures(table.iloc[:0], tmp_path, MODELS, ()) == {"cells": {}, "control": None, "also": []}
    assert maximised_picture(run).claim.endswith("beat 99 % of real images in the model they are made for")
    with pytest.raises(UserError, match=r"no maximised pictures of 2; there are of 0, 4\. To add"):
        maximised_picture(run, [0, 2])


def test_figures_of_listed_concepts(run, tmp_path):
    picture = heatmap_picture(run, [2, 0], images=3)
    assert [path.name for path in picture.save(tmp_path)] == ["heatmaps.svg", "heatmaps.png"]
    with pytest.raises(UserError, match=r"The list of concepts should name concepts from 0 to \d+, found 999"):
        heatmap_picture(run, [999])
    assert maximised_picture(run).claim == "Nothing was maximised"


def test_the_command_draws_figures(run, tmp_path, capsys):
    def draw(*arguments, root=run.root):
        status = figures.main([*arguments, "--run", str(root), "--output", str(tmp_path)])
        return status, capsys.readouterr()

    status, drawn = draw("heatmaps", "2", "5", "--images", "3")
    assert (status, drawn.out.split()) == (0, [str(tmp_path / "heatmaps.svg"), str(tmp_path / "heatmaps.png")])
    status, refused = draw("heatmaps", "999")
    assert status == 1
    assert "found 999" in refused.err
    status, refused = draw("maximised", root=tmp_path)
    assert status == 1
    assert "There is no finished run in" in refused.err


def test_cofiring_is_the_jaccard_index_of_tokens(run):
    cofiring, fired = Cofiring([0, 2], CONCEPTS, 0.1), []
    for chunks in aligned_chunks(run.codes):
        cofiring.update(chunks)
        for chunk in chunks:
            dense = np.zeros((chunk.tokens, CONCEPTS))
            rows = np.arange(chunk.tokens)[:, None]
            np.add.at(
                dense, (rows, chunk.indices.reshape(chunk.tokens, -1)), chunk.values.reshape(chunk.tokens, -1)
            )
            fired.append(dense > 0.1)
    every = np.concatenate(fired)
    shares = [
        (every[:, 2] & every[:, c]).sum() / max((every[:, 2] | every[:, c]).sum(), 1) for c in range(CONCEPTS)
    ]
    shares[2] = -1
    assert cofiring.near()[2][0] == (int(np.argmax(shares)), pytest.approx(max(shares)))


def test_random_dictionaries_have_nearest_rows_too():
    assert random_nearest(2, 10_000, seed=0) == pytest.approx(0, abs=0.05)  # in many dimensions no row is near
    assert random_nearest(2000, 8, seed=0) > random_nearest(2000, 64, seed=0) > 0.3
    assert random_nearest(500, 16, seed=1) == random_nearest(500, 16, seed=1)


def test_near_directions_are_the_largest_cosines(run):
    sae = run.usae()
    found = near_directions(sae, "distilled", [4])[4]
    cosines = (sae.dictionary("distilled")[4] @ sae.dictionary("distilled").T).detach()
    assert [concept for concept, _ in found] == torch.argsort(cosines, descending=True)[1:6].tolist()
    assert found[0][1] == pytest.approx(float(cosines[found[0][0]]), abs=1e-6)


def test_a_page_beyond_the_budget_names_three_parameters(tmp_path):
    with pytest.raises(UserError) as caught:
        write_report(synthetic_run(tmp_path, megabytes=0.2), tmp_path / "out")
    assert re.search(r"would have \d\.\d MB, more than `report.megabytes: 0.2`", str(caught.value))
    for name in ("`report.images` (now 4)", "`report.own_images` (2)", "`report.thumbnail` (96)"):
        assert name in str(caught.value)
    assert not (tmp_path / "out/index.html").exists()


def test_panels_show_the_tables_that_there_are(run, written):
    funnel = contrasted.funnel()
    panel = make_panel("funnel", funnel, LAYOUTS["funnel"])
    assert panel.header == ["run", "before the first step", *contrasted.STEPS]
    assert panel.body[:3] == [
        ["the run", "no", "512", "465", "268", "42", "28", "5"],
        ["the run", "yes", "512", "512", "229", "33", "25", "1"],
        ["another seed, 1", "no", "512", "458", "265", "42", "22", "\u2013"],
    ]
    assert panel.numeric == [False, False, *[True] * 6]
    levels = pd.concat([funnel, funnel.query("run == 'usae' and not start").assign(level=1, concepts=3)])
    assert make_panel("funnel", levels, LAYOUTS["funnel"]).body[-1] == ["the run, level 1", "no", *["3"] * 6]
    odd = make_panel("stitching", pd.DataFrame({"a": [1.23456, np.nan], "b": ["x", None]}), LAYOUTS["stitching"])
    assert odd.body == [["1.2", "x"], ["\u2013", "\u2013"]]
    long = make_panel("paper", pd.DataFrame({"n": range(50)}), LAYOUTS["paper"])
    assert (len(long.body), long.left_out) == (40, 10)
    ablation = pd.DataFrame(
        {"concept_id": [0, 1, 2], "effect": [0.1, np.nan, 0.3], "agreement": [0.2, np.nan, 0.9]}
    )
    ranked = make_panel("ablation", ablation.assign(agrees=[True, None, False], p=1.0), LAYOUTS["ablation"])
    assert ranked.header == ["concept", "effect", "agreement", "agrees"]
    assert [ranked.body, ranked.left_out] == [[["2", "0.3", "0.9", "no"], ["0", "0.1", "0.2", "yes"]], 1]
    loss = pictures(run.reports, MODELS, 0.1)[-3]
    assert panels(run.reports.having(funnel=funnel, paper=funnel.iloc[:0]), {"funnel": loss})[0].picture is loss
    text = render(run, [], [panel], {"funnel": written.parent / "figures/loss.svg"})[0]
    assert 'id="panel-funnel"' in text
    assert 'id="panel-paper"' not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *(
            (0.838, "0.84"),
            (-0.000138, "0"),
            (0.02, "0.02"),
            (-0.0286, "\u22120.029"),
            (11.94, "12"),
            (166.0, "166"),
        ),
        *((1234.5, "1,234"), (6.43, "6.4")),
    ],
)
def test_numbers_of_panels_have_two_digits(value, text):
    assert two_digits(value) == text


def test_panels_of_controls_tell_counts_what_comes_back_and_what_training_adds_apart(run):
    controls, sensitivity = contrasted.controls(), contrasted.sensitivity()
    tables = run.reports.having(controls=controls, sensitivity=sensitivity, repeated=contrasted.repeated())
    by_name = {panel.name: panel for panel in panels(tables, {})}
    assert list(by_name) == ["sensitivity", "repeated", "stability", "adds", "controls"]
    assert [panel.table for panel in by_name.values()] == [
        "sensitivity", "repeated", "controls", "controls", "controls"
    ]  # fmt: skip
    assert by_name["sensitivity"].header == [
        "threshold", "value", "shared by all models", "shared by all models, before the first step",
        "universal", "universal, before the first step",
    ]  # fmt: skip
    assert by_name["sensitivity"].body[0] == ["least agreement", "0.02", "57", "45", "6", "1"]
    assert by_name["repeated"].body[1] == ["yes", "even images", "beyond controls", "18", "9", "0.5", "0.03"]
    assert by_name["stability"].body == [
        ["half of the images, 1", "comes back, share", "0.04", "0", "0.03", "0.01"],
        [
            "half of the images, 1",
            "correlation of codes, mean, in half of the images, 2",
            "0.39",
            "0",
            "0.38",
            "0.01",
        ],
    ]
    assert by_name["adds"].header == [
        "measure", "after training", "before the first step", "training adds", "from", "to"
    ]  # fmt: skip
    assert by_name["adds"].body[:2] == [
        ["shared by all models", "28", "25", "3", "\u22120.025", "8"],
        ["universal", "5", "1", "4", "4", "5"],
    ]
    assert len(by_name["adds"].body) == 5
    assert by_name["controls"].header == ["measure", "reading", "the run", "re-paired images: all models"]
    assert by_name["controls"].body[:3] == [
        ["shared by all models", "after training", "28", "0"],
        ["shared by all models", "before the first step", "25", "0"],
        ["universal", "after training", "5", "\u2013"],
    ]
    assert ["lift, median", "re-paired", "15", "\u2013"] in by_name["controls"].body
    assert all(panel.how.endswith(".") for panel in by_name.values())
    text = render(run, [], list(by_name.values()), {})[0]
    assert text.count("<code>reports/controls.parquet</code>") == 3
    assert 'id="panel-adds"' in text
    seeds = controls[~controls["measure"].str.startswith(("comes_back", "correlation"))]
    assert "stability" not in [panel.name for panel in panels(run.reports.having(controls=seeds), {})]


def test_a_run_without_concepts_makes_a_page(tmp_path):
    run = synthetic_run(tmp_path)
    tables = run.reports
    empty = {name: tables[name].iloc[:0] for name in ("reconstruction", "exemplars", "training", "probes")}
    concepts = tables["concepts"].assign(alive=False, cofires=0, fires=0, lift=np.nan)
    concepts = concepts.assign(cofire_proportion_min=np.nan)
    models = tables["concept_models"].assign(fires=0, cofire_proportion=np.nan)
    dead = with_tables(run, concepts=concepts.assign(firing_entropy=np.nan), concept_models=models, **empty)
    found = data_of(write_report(dead, tmp_path / "out").read_text(encoding="utf-8"))
    assert found["cards"] == {}
    assert set(found["concepts"]["kind"]) == {"dead"}


def test_without_labels_there_are_no_chips(run):
    bare = with_tables(run, concepts=run.reports["concepts"].assign(top_label=None, top_label_share=np.nan))
    assert set(payload(bare)["concepts"]["top_label"]) == {None}


def test_hostile_names_are_escaped(run):
    label = "</script><script>alert('x')</script>"
    text = render(with_tables(run, concepts=run.reports["concepts"].assign(top_label=label)), [], [], {})[0]
    assert "<script>alert" not in text
    assert data_of(text)["concepts"]["top_label"][0] == label


def test_numbers_read_well():
    values = (1234, 0.01234, 7.0, 1500.4, 20.81, 99.7, 134.2, np.nan)
    assert [number(value) for value in values] == ["1,234", "0.012", "7", "1,500", "21", "100", "134", "\u2013"]
    assert [decimals(0.996), decimals(np.nan)] == ["1.00", "\u2013"]
    assert share(np.nan) == "\u2013"


def test_missing_tables_and_runs_are_named(run, tmp_path):
    with pytest.raises(UserError, match=r"There is no finished run in .*; run `dvc repro` there first\."):
        Run.load(tmp_path)
    assert not set(LAYOUTS) & set(Reports.load(run.root / "reports").frames)
