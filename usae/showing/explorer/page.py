"""Assemble and render the page (stage `report`): overview, figures, panels, and the data that its script shows.

The template, its style and its scripts lie in `web/` and end up inside the page, so that it opens anywhere.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from usae.common.files.whole import write_output
from usae.evidence.verdict.levels import is_readable
from usae.showing.explorer.album import Album, palette
from usae.showing.explorer.cards import images_of, make_cards
from usae.showing.explorer.charts import chart_uri
from usae.showing.explorer.image_files import image_files
from usae.showing.explorer.kinds import kinds
from usae.showing.explorer.neighbours import random_nearest
from usae.showing.explorer.opening import judgement, step_rows
from usae.showing.explorer.overview import code_version, left_out, models_table, r2_rows, tiles
from usae.showing.explorer.panels import Panel, panels
from usae.showing.explorer.parts import named, places, split, within, write_files
from usae.showing.explorer.payload import (
    MODEL_TABLE,
    TABLE,
    check_budget,
    concept_columns,
    half_columns,
    half_tips,
    level_columns,
    model_columns,
    tips,
)
from usae.showing.explorer.sharing import label_lists, pair_marks
from usae.showing.explorer.story import story
from usae.showing.explorer.wording import decimals, number, quoted, share
from usae.showing.figures import Picture, pictures
from usae.showing.figures.chosen_concepts import universal_picture
from usae.showing.figures.matrix import ALONE
from usae.showing.figures.theme import model_colours
from usae.showing.pages import environment, inlined
from usae.showing.results.choice import support
from usae.showing.results.run import Run
from usae.showing.scripts import Json, script_text

WEB = Path(__file__).parent / "web"
SCRIPTS = ("words", "state", "files", "pairs", "table", "map", "take", "heat", "card", "image", "main")
FIGURES = Path("figures")
APPENDIX = ("planted",)  # figures of other activations than the run's
REST = "cards to come"  # stands for them until it is known how many there is room for


def write_report(run: Run, folder: Path) -> Path:
    """Write `folder/index.html`, what lies beside it in `folder/explorer/`, and `folder/figures/*.{svg,png}`;
    returns the page's path.

    Raises:
        UserError: the page would be larger than `report.megabytes` with its first cards alone.
    """
    params = run.params
    drawn = pictures(run.reports, params.models, params.measure.agreement, params.ood.images)
    added = panels(run.reports, {picture.name: picture for picture in drawn if picture.drawn})
    saved = [*(picture for picture in drawn if picture.drawn), universal_picture(run)]
    files = Picture.save_all(saved, folder / FIGURES)
    in_panels = {panel.name for panel in added}
    alone = [picture for picture in drawn if picture.name not in in_panels]
    text, beside = render(run, alone, added, files)
    page = folder / "index.html"
    write_output(page, text.encode())
    write_files(folder, beside)
    return page


def album_of(run: Run) -> Album:
    """The run's held-out images, small."""
    return Album(run.index, run.params.report.thumbnail, run.params.extract.fit)


def payload(run: Run) -> Json:
    """All that the script shows: numbers of every concept, cards of the chosen ones, every picture once."""
    tables, params = run.reports, run.params
    album = album_of(run)
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
        "pairs": pair_marks(tables["concept_pairs"], tables["concepts"], params.models, params.measure.agreement),
        "agreement": params.measure.agreement,
        "labels": label_lists(tables["concept_labels"], tables["concepts"]),
        "perModel": model_columns(tables["concept_models"], tables["concepts"], params.models),
        "fullCards": params.report.concepts,
        "palette": palette(),
        "randomNearest": random_cosines(run),
        "grid": params.extract.grid,
        "threshold": params.measure.threshold,
        "cards": cards,
        "photos": album.photos_of(images),
        "captions": {str(image): caption(run, image) for image in sorted(images)},
    }


def random_cosines(run: Run) -> dict[str, float]:
    """By model the decoder cosine that the nearest of as many random directions would have."""
    sae = run.usae()
    seed, widths = run.params.seed, sae.widths
    return {model: round(random_nearest(sae.concepts, widths[model], seed), 3) for model in run.params.models}


def render(
    run: Run, drawn: Sequence[Picture], added: Sequence[Panel], files: Mapping[str, Path]
) -> tuple[str, dict[str, Json]]:
    """The page as text, and the files beside it by name: figures outside panels, panels; `files` holds the SVG
    file of every figure by name.
    """
    data = payload(run)
    first, later = split(data)
    text = page_text(run, first, drawn, added, files)
    check_budget(text, len(first["cards"]), len(script_text(first)), run.params)
    budget = int(1e6 * run.params.report.megabytes)
    page, beside = within(later, budget - len(text.encode()))
    images, threshold = images_of(data["cards"]), run.params.measure.threshold
    code_files = list(image_files(run.codes, album_of(run), images, threshold, budget))
    rest = page.content | {"files": places(beside), "codeFiles": [list(map(int, f["images"])) for f in code_files]}
    return text.replace(REST, script_text(rest)), named("cards", [part.content for part in beside]) | named(
        "codes", code_files
    )


def page_text(
    run: Run, first: Json, drawn: Sequence[Picture], added: Sequence[Panel], files: Mapping[str, Path]
) -> str:
    """The page with its `first` data; REST stands where the others go."""
    templates = environment(WEB)
    templates.filters |= {"number": number, "share": share, "decimals": decimals, "quoted": quoted}
    models = run.params.models
    return templates.get_template("template.html.jinja").render(
        params=run.params,
        colours=model_colours(models),
        style=inlined([WEB / "style.css"]),
        script=inlined(WEB / f"{name}.js" for name in SCRIPTS),
        data=Markup(script_text(first)),
        rest=REST,
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
        support=first["support"],
        levels="level" in first["concepts"],
        images=len(run.index),
        left_out=left_out(run.root),
        compared=len(run.reports["methods"]) > 0,
    )


def caption(run: Run, image: int) -> str:
    """What an image shows, where the data set says so."""
    row: Any = run.index.frame.iloc[image]
    text = row["caption"]
    if isinstance(text, str) and text:
        return text
    label, names = row["label"], run.index.label_names
    return "" if pd.isna(label) or int(label) >= len(names) else names[int(label)]
