"""Write the page that compares methods (stage `report`): rules, tables, figures; it needs no network, no script.

The template, its style and its script lie beside this file; the look is the explorer's.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from usae.common.files.whole import write_output
from usae.showing.comparison.table import COST, QUALITY, dashes, lines, runs
from usae.showing.comparison.words import (
    BLOCK_TEXTS,
    MODE_LABELS,
    MODE_TEXTS,
    standing,
    summary,
    without_evidence,
)
from usae.showing.explorer.charts import chart_uri
from usae.showing.explorer.opening import Judgement, judgement
from usae.showing.explorer.page import WEB as EXPLORER
from usae.showing.figures import Picture, method_pictures
from usae.showing.figures.sharing import RUN_NAMES, sharing_counts
from usae.showing.pages import environment, inlined
from usae.showing.results.compared import Compared
from usae.showing.results.run import Run

HERE = Path(__file__).parent
FIGURES = Path("figures")
PAGE = "methods.html"


def write_comparison(run: Run, folder: Path) -> Path:
    """Write `folder/methods.html`, one sentence where nothing was compared, and figures into `folder/figures`."""
    compared = Compared.of(run.reports)
    judged = run.reports["verdict"]
    figures = method_pictures(compared, judged) if compared.methods else []
    drawn = [picture for picture in figures if picture.drawn]
    files = Picture.save_all(drawn, folder / FIGURES)
    page = folder / PAGE
    write_output(page, render(compared, run.params.models, drawn, files, judgement(judged)).encode())
    return page


def render(
    compared: Compared,
    models: Sequence[str],
    drawn: Sequence[Picture],
    files: Mapping[str, Path],
    verdict: Judgement,
) -> str:
    """The page as text; `files` holds the SVG file of every figure by name."""
    template = environment(HERE).get_template("template.html.jinja")
    return template.render(
        models=list(models),
        verdict=verdict,
        listed=" and ".join([", ".join(models[:-1]), models[-1]] if len(models) > 1 else models),
        style=inlined(folder / "style.css" for folder in (EXPLORER, HERE)),
        script=inlined([HERE / "table.js"]),
        compared=compared.methods,
        summary=[text.replace(" %", "\u00a0%") for text in summary(compared)] if verdict.readable else [],
        standing=standing(compared),
        without_evidence=without_evidence(compared),
        blocks=BLOCK_TEXTS,
        modes=MODE_LABELS,
        warnings=MODE_TEXTS,
        runs=list(runs(compared).values()),
        quality=QUALITY,
        quality_lines=lines(compared, models, QUALITY),
        quality_dashes=dashes(compared, QUALITY),
        cost=COST,
        cost_lines=lines(compared, models, COST),
        cost_dashes=dashes(compared, COST),
        sharing=_sharing(compared.sharing),
        figures=drawn,
        uris={name: chart_uri(path) for name, path in files.items()},
    )


def _sharing(sharing: pd.DataFrame) -> list[tuple[str, ...]]:
    """Rows of the table of norms: method, run, and the counts as texts."""
    counts = sharing_counts(sharing)
    names = ("latents", "shared", "between", "exclusive", "still_there")
    return [
        (row["method"], RUN_NAMES.get(row["run"], row["run"]), *(f"{row[name]:,}" for name in names))
        for row in counts.to_dict("records")
    ]
