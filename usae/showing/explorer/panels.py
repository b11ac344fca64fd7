"""Panels for the tables that a run may have: a sentence how to read it, a figure, a small table (stage
`report`)."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from usae.showing.explorer.readings import (
    control_readings,
    found_again_readings,
    funnel_readings,
    sensitivity_readings,
    training_readings,
    without_empty,
)
from usae.showing.figures.theme import MISSING, Picture
from usae.showing.names import READINGS, heading, in_words
from usae.showing.results.reports import Reports

MOST_ROWS = 40
MINUS = "\u2212"


@dataclass(frozen=True)
class PanelLayout:
    """How a table is shown: either spread (its rows' labels, what goes over columns, the values), or as it is.

    selected: the columns of a table shown as it is, all where empty. needs: a column; rows where it is null are
    left out. order: a column to sort by, largest first. table: where it is not the panel's name. prepared: the
    table before all this (`readings.py`). value_is: the heading of a column `value`.
    """

    title: str
    how: str
    rows: tuple[str, ...] = ()
    columns: str | None = None
    value: str | None = None
    selected: tuple[str, ...] = ()
    needs: str | None = None
    order: str | None = None
    table: str | None = None
    prepared: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    value_is: str = "value"


@dataclass(frozen=True)
class Panel:
    """A table ready to be shown; cells are texts.

    table: the file it is of. numeric: which columns hold numbers. left_out: rows that are in that file only.
    """

    name: str
    table: str
    title: str
    how: str
    header: list[str]
    numeric: list[bool]
    body: list[list[str]]
    left_out: int
    picture: Picture | None


LAYOUTS = {
    "funnel": PanelLayout(
        "Shared by all models, and found again",
        "Each number counts the concepts that pass a step and all before it. Those that pass \u201cbeyond "
        "controls\u201d are shared by all models; those that pass \u201cstable\u201d too, asked of the run "
        "and of its twin alone, are called universal. The controls with nothing to share, orange, say how many "
        "do so by accident, the run before its first step, how many do so without training.",
        ("run", "start"),
        "step",
        "concepts",
        prepared=funnel_readings,
    ),
    "sensitivity": PanelLayout(
        "Other thresholds",
        "One threshold of the funnel is moved, the others stay. A count that means something does not hang on the "
        "third digit of a threshold, and is larger than that of the start wherever training has added something.",
        ("threshold", "value"),
        "counted",
        "concepts",
        prepared=sensitivity_readings,
    ),
    "repeated": PanelLayout(
        "The same count on other images",
        "Concepts were chosen on every second held-out image and asked again on the others. Share: of the "
        "chosen ones, those that pass there too; share of all: of all concepts, those that pass there, "
        "which is what a choice without any meaning would give.",
        selected=("start", "chosen_by", "step", "concepts", "repeated", "share", "anyhow"),
    ),
    "stability": PanelLayout(
        "Found again by another SAE",
        "Concepts are matched one to one with those of another SAE by what they do on held-out tokens. The SAEs "
        "of half of the images saw one half each, those of another seed all of them. Re-paired is the partner of "
        "another concept, before the first step is of both SAEs: only what is above it was learnt.",
        selected=("run", "measure", "value", "null", "start", "adds"),
        value_is=READINGS["value"],
        table="controls",
        prepared=found_again_readings,
    ),
    "adds": PanelLayout(
        "What training adds",
        "Each measure of the run after training, before the first step, and the difference, with its 95 %"
        " interval over resampled held-out images where there is one. Where the interval contains 0, training"
        " adds nothing that it can tell from 0. Of a count only the agreement is asked anew of every resample;"
        " the other steps stay as they are, so its interval is rather too narrow.",
        selected=("measure", "value", "start", "adds", "adds_low", "adds_high"),
        value_is=READINGS["value"],
        table="controls",
        prepared=training_readings,
    ),
    "controls": PanelLayout(
        "The run and its controls",
        "Each column is the run or a control, measured on the same held-out images: after training, with "
        "one model re-paired, and before the first step. What a control reaches too is no evidence "
        "of shared concepts, what the start reaches none of training.",
        ("measure", "reading"),
        "run",
        "number",
        prepared=control_readings,
    ),
    "paper": PanelLayout(
        "The paper and this run",
        "The paper's numbers are of another setting, and no target; column differs of the file says how. "
        "A difference stands here only where models and held-out images are the paper's.",
        selected=("where", "quantity", "paper", "ours", "difference"),
        needs="ours",
        prepared=without_empty,
    ),
    "alignment": PanelLayout(
        "How alike the representations are",
        "Each likeness stands beside its mean over re-paired images; calibrated, 0 is what re-paired images give "
        "and 1 is identity.",
        selected=("measure", "space", "model_i", "model_j", "value", "null_mean", "calibrated", "p"),
    ),
    "depth": PanelLayout(
        "Layer by layer",
        "Models that read one network at several layers, beside all others: on how many of their fires both fire "
        "together, mean over the concepts that fire in both. Columns are the other models.",
        ("network", "layer", "model"),
        "other",
        "agreement",
    ),
    "onboarding": PanelLayout(
        "A newcomer",
        "One model was kept out and then learnt the frozen dictionary of the others from few images; columns are "
        "numbers of images, values are held-out R\u00b2. Dictionaries before the first "
        "step or of re-paired images have nothing to offer. What they reach too, the regression reaches.",
        ("dictionary", "setting", "source", "target"),
        "images",
        "r2",
    ),
    "stitching": PanelLayout(
        "Stitching",
        "What a readout trained on one model's tokens still does on tokens that another model's codes rebuilt. "
        "Columns are the models that are rebuilt.",
        ("method", "score", "source"),
        "target",
        "value",
    ),
    "ablation": PanelLayout(
        "Taking concepts out",
        "What a readout loses when a concept is taken out of one model; a shared concept costs all models alike. "
        "The concepts whose effects agree most come first.",
        selected=("sae", "concept_id", "label", "images", "effect", "selectivity", "agreement", "q", "agrees"),
        needs="effect",
        order="agreement",
    ),
}


def panels(tables: Reports, figures: Mapping[str, Picture]) -> list[Panel]:
    """One panel per layout whose table has rows, with the figure of the same name."""
    made = (
        make_panel(name, tables[layout.table or name], layout, figures.get(name))
        for name, layout in LAYOUTS.items()
        if len(tables[layout.table or name])
    )
    return [panel for panel in made if panel.body]


def make_panel(name: str, frame: pd.DataFrame, layout: PanelLayout, picture: Picture | None = None) -> Panel:
    """The table as laid out; as it is, where it lacks the columns that the layout names."""
    frame = layout.prepared(frame) if layout.prepared else frame
    named = {*layout.rows, layout.columns, layout.value} - {None}
    spread = bool(named) and named <= set(frame.columns)
    cells = _spread(frame, layout) if spread else _rows(frame, layout)
    columns = [str(column) for column in cells.columns]
    across = {*columns} - {*layout.rows} if spread else set()  # values of the column that goes over columns
    header = [
        in_words(str(layout.columns), name) if name in across else heading(name, layout.value_is)
        for name in columns
    ]
    body = [
        [in_words(name, cell(value)) for name, value in zip(columns, row, strict=True)]
        for row in cells.head(MOST_ROWS).itertuples(index=False)
    ]
    left_out = len(cells if spread else frame) - len(body)
    numeric = [is_numeric_dtype(cells[column]) and not is_bool_dtype(cells[column]) for column in cells]
    table = layout.table or name
    return Panel(name, table, layout.title, layout.how, header, numeric, body, left_out, picture)


def cell(value: Any) -> str:
    """A value of a table as text."""
    if pd.isna(value):
        return MISSING
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float):
        return two_digits(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def two_digits(value: float) -> str:
    """Two significant digits, of which none is beyond the third decimal; whole numbers stay whole."""
    if not math.isfinite(value):
        return str(value)
    if value.is_integer() or abs(value) >= 100:
        return f"{value:,.0f}".replace("-", MINUS)
    decimals = min(3, 1 - math.floor(math.log10(abs(value))))
    return f"{round(value, decimals):zg}".replace("-", MINUS)


def _spread(frame: pd.DataFrame, layout: PanelLayout) -> pd.DataFrame:
    """Rows by labels, columns by the values of one column, both in the order of the table."""
    wide = frame.pivot_table(
        index=list(layout.rows), columns=layout.columns, values=layout.value, sort=False, observed=True
    )
    order: Sequence[Any] = list(dict.fromkeys(frame[layout.columns]))
    return wide.reindex(columns=[column for column in order if column in wide]).reset_index()


def _rows(frame: pd.DataFrame, layout: PanelLayout) -> pd.DataFrame:
    """The table's own rows, in its own columns."""
    if layout.needs in frame:
        frame = frame.dropna(subset=[layout.needs])
    if layout.order in frame:
        frame = frame.sort_values(str(layout.order), ascending=False, kind="stable")
    return frame[[name for name in layout.selected if name in frame] or list(frame.columns)]
