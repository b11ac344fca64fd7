"""Assemble and render the page (stage `report`): summary, what ran, figures, concept cards.

The template and its style and script lie beside this file and end up inside the page, so that it opens anywhere.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from usae.codes import CodeStore
from usae.explorer.cards import Card, Maximisation, data_uri, make_card
from usae.explorer.overview import models_table, r2_rows, tiles
from usae.figures import Picture, pictures
from usae.figures.concept_grid import grid_picture
from usae.figures.theme import MISSING, model_colours, percent
from usae.gallery import Choice, Exhibit, exhibits, shared_concepts, specific_concepts, thumbnails, varied
from usae.images import ImageIndex
from usae.maximised import read_scores
from usae.params import Params
from usae.reports import Reports

HERE = Path(__file__).parent
THUMBNAIL = 96  # pixels
GRID_CONCEPTS, GRID_IMAGES = 4, 6  # of the README's picture
FIGURES = Path("figures")


@dataclass(frozen=True)
class Run:
    """Everything that a report is made of."""

    params: Params
    reports: Reports
    index: ImageIndex
    codes: Mapping[str, CodeStore]
    maximised: Path

    def photos(self, exhibit: Exhibit) -> np.ndarray:
        """Thumbnails of an exhibit's images: (n, side, side, 3) uint8."""
        return thumbnails(self.index, exhibit.images, THUMBNAIL, self.params.extract.fit)


def write_report(run: Run, folder: Path) -> Path:
    """Write `folder/index.html` and `folder/figures/*.{svg,png}`; returns the page's path."""
    shown = [*pictures(run.reports, run.params.models), concept_picture(run)]
    files = {picture.name: picture.save(folder / FIGURES) for picture in shown}
    page = folder / "index.html"
    page.write_text(render(run, shown[:-1], {name: svg for name, (svg, _) in files.items()}), encoding="utf-8")
    return page


def choices(run: Run) -> list[Choice]:
    """The page's concepts: the most universal ones, then those most specific to each model."""
    tables, wanted = run.reports, run.params.report
    shared = shared_concepts(tables.concepts, wanted.concepts)
    return shared + specific_concepts(tables.concepts, tables.concept_models, run.params.models, wanted.unique)


def concept_picture(run: Run) -> Picture:
    """The README's picture: a few universal concepts of different kinds."""
    candidates = shared_concepts(run.reports.concepts, run.params.report.concepts)
    chosen = varied(candidates, run.reports.concepts, GRID_CONCEPTS)
    shown = list(exhibits(chosen, run.reports.exemplars, run.codes, GRID_IMAGES))
    table = run.reports.concepts.set_index("concept_id")
    titles = [_title(choice.concept, table.loc[choice.concept]) for choice in chosen]
    return grid_picture(shown, [run.photos(exhibit) for exhibit in shown], titles)


def cards(run: Run) -> list[Card]:
    """One card per chosen concept."""
    tables = run.reports
    concepts = tables.concepts.set_index("concept_id")
    concept_models = tables.concept_models.set_index(["concept_id", "model"]).sort_index()
    maximisation = Maximisation(run.maximised, read_scores(run.maximised))
    shown = exhibits(choices(run), tables.exemplars, run.codes, run.params.report.images)
    return [make_card(each, run.photos(each), concepts, concept_models, maximisation) for each in shown]


def render(run: Run, shown: Sequence[Picture], files: Mapping[str, Path]) -> str:
    """The page as text; `files` holds the SVG file of every figure by name."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "share": share, "places": places}
    models = run.params.models
    return environment.get_template("template.html.jinja").render(
        params=run.params,
        colours=model_colours(models),
        style=Markup((HERE / "style.css").read_text(encoding="utf-8")),
        script=Markup((HERE / "script.js").read_text(encoding="utf-8")),
        tiles=tiles(run.reports, len(run.index), models),
        zoo=models_table(run.params),
        r2=r2_rows(run.reports.reconstruction, models),
        figures=[(picture, data_uri(files[picture.name].read_bytes(), "image/svg+xml")) for picture in shown],
        cards=cards(run),
        images=len(run.index),
    )


def number(value: float) -> str:
    """1234 -> '1,234', 0.01234 -> '0.0123', NaN -> a dash."""
    if not math.isfinite(value):
        return MISSING
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:.3g}"


def places(value: float) -> str:
    """Two decimals, or a dash."""
    return f"{value:.2f}" if math.isfinite(value) else MISSING


def share(value: float) -> str:
    """0.314 -> '31 %', NaN -> a dash."""
    return percent(value) if math.isfinite(value) else MISSING


def _title(concept: int, numbers: Any) -> str:
    label = "" if pd.isna(numbers["top_label"]) else str(numbers["top_label"])
    agreement = f"agreement {share(numbers['universality'])}"
    return ", ".join(filter(None, [f"concept {concept}", label, agreement]))
