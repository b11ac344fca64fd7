"""Assemble and render the page (stage `report`): overview, figures, panels, and the data that its script shows.

The template, its style and its scripts lie beside this file and end up inside the page, so that it opens anywhere.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from usae.common.files.whole import write_output
from usae.evidence.verdict.levels import is_readable
from usae.showing.explorer.album import Album
from usae.showing.explorer.cards import control_cell, images_of, make_cards
from usae.showing.explorer.charts import chart_uri
from usae.showing.explorer.kinds import kinds
from usae.showing.explorer.opening import judgement, step_rows
from usae.showing.explorer.overview import code_version, models_table, r2_rows, tiles
from usae.showing.explorer.panels import Panel, panels
from usae.showing.explorer.payload import (
    MODEL_TABLE,
    TABLE,
    Json,
    check_budget,
    concept_columns,
    half_columns,
    half_tips,
    level_columns,
    model_columns,
    script_text,
    tips,
)
from usae.showing.explorer.story import story
from usae.showing.explorer.wording import decimals, number, quoted, share
from usae.showing.figures import Picture, pictures
from usae.showing.figures.chosen_concepts import universal_picture
from usae.showing.figures.matrix import ALONE
from usae.showing.figures.theme import model_colours
from usae.showing.pages import environment, inlined
from usae.showing.results.choice import support
from usae.showing.results.run import Run

HERE = Path(__file__).parent
SCRIPTS = ("words.js", "state.js", "table.js", "card.js", "main.js")
FIGURES = Path("figures")
APPENDIX = ("planted",)  # figures of other activations than the run's
FIRST = 12  # cards that come before everything else, so that they show while the rest of the page is read


def write_report(run: Run, folder: Path) -> Path:
    """Write `folder/index.html` and `folder/figures/*.{svg,png}`; returns the page's path.

    Raises:
        UserError: the page would be larger than `report.megabytes`.
    """
    drawn = pictures(run.reports, run.params.models, run.params.measure.agreement)
    added = panels(run.reports, {picture.name: picture for picture in drawn if picture.drawn})
    saved = [*(picture for picture in drawn if picture.drawn), universal_picture(run)]
    files = Picture.save_all(saved, folder / FIGURES)
    in_panels = {panel.name for panel in added}
    alone = [picture for picture in drawn if picture.name not in in_panels]
    page = folder / "index.html"
    write_output(page, render(run, alone, added, files).encode())
    return page


def payload(run: Run) -> Json:
    """All that the script shows: numbers of every concept, cards of the chosen ones, every picture once."""
    tables, params = run.reports, run.params
    album = Album(run.index, params.report.thumbnail, params.extract.fit)
    cards = make_cards(run, album)
    images = images_of(cards)
    levels = level_columns(tables["concepts"])
    headings = TABLE | ({"level": "level"} if levels else {})
    return {
        "models": [{"name": model, "colour": colour} for model, colour in model_colours(params.models).items()],
        "tokens": int(tables["concepts"]["tokens"].max()) if len(tables["concepts"]) else 0,
        "support": support(tables["concepts"]),
        "columns": tips(tables.descriptions["concepts"], headings) + half_tips(tables["stability"]),
        "modelColumns": tips(tables.descriptions["concept_models"], MODEL_TABLE),
        "steps": list(dict.fromkeys(tables["funnel"].get("step", ()))),
        "readable": is_readable(tables["verdict"]),
        "concepts": concept_columns(tables["concepts"])
        | {"kind": kinds(tables, params.models, params.measure.agreement)}
        | half_columns(tables["stability"], tables["concepts"])
        | levels,
        "perModel": model_columns(tables["concept_models"], tables["concepts"], params.models),
        "cards": cards,
        "photos": album.photos_of(images),
        "captions": {str(image): caption(run, image) for image in sorted(images)},
        "control": control_cell(tables["maximisation"]),
    }


def split(data: Json, count: int = FIRST) -> tuple[Json, Json]:
    """The payload in two: all numbers and what the first `count` cards need; the other `cards` and `photos`."""
    cards, photos = data["cards"], data["photos"]
    early = dict(list(cards.items())[:count])
    needed = {str(image) for image in images_of(early)}
    first = data | {
        "carded": dict.fromkeys(cards, True),
        "cards": early,
        "photos": {image: photo for image, photo in photos.items() if image in needed},
    }
    rest = {
        "cards": {concept: card for concept, card in cards.items() if concept not in early},
        "photos": {image: photo for image, photo in photos.items() if image not in needed},
    }
    return first, rest


def render(run: Run, drawn: Sequence[Picture], added: Sequence[Panel], files: Mapping[str, Path]) -> str:
    """The page as text: figures outside panels, panels; `files` holds the SVG file of every figure by name."""
    templates = environment(HERE)
    templates.filters |= {"number": number, "share": share, "decimals": decimals, "quoted": quoted}
    models, data = run.params.models, payload(run)
    first, rest = split(data)
    text = templates.get_template("template.html.jinja").render(
        params=run.params,
        colours=model_colours(models),
        style=inlined([HERE / "style.css"]),
        script=inlined(HERE / name for name in SCRIPTS),
        data=Markup(script_text(first)),
        rest=Markup(script_text(rest)),
        story=story(run.reports, models),
        verdict=judgement(run.reports["verdict"]),
        steps=step_rows(run.reports),
        tiles=tiles(run.reports, models),
        zoo=models_table(run.params),
        version=code_version(run.root),
        r2=r2_rows(run.reports["reconstruction"], models),
        alone=list(ALONE.values()),
        figures=[picture for picture in drawn if picture.drawn and picture.name not in APPENDIX],
        appendix=[picture for picture in drawn if picture.drawn and picture.name in APPENDIX],
        absent=[picture for picture in drawn if not picture.drawn],
        panels=added,
        uris={name: chart_uri(path) for name, path in files.items()},
        support=data["support"],
        levels="level" in data["concepts"],
        images=len(run.index),
        compared=len(run.reports["methods"]) > 0,
    )
    check_budget(text, len(data["cards"]), _size(data["photos"]) + _size(data["cards"]), run.params)
    return text


def caption(run: Run, image: int) -> str:
    """What an image shows, where the data set says so."""
    row: Any = run.index.frame.iloc[image]
    text = row["caption"]
    if isinstance(text, str) and text:
        return text
    label, names = row["label"], run.index.label_names
    return "" if pd.isna(label) or int(label) >= len(names) else names[int(label)]


def _size(data: Any) -> int:
    return len(script_text(data))
