"""Which concepts may be called universal, and what the same rule calls so where nothing is (stage `report`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from usae.evidence.controls.names import RUN, is_null
from usae.evidence.metrics.funnel import BEYOND_CONTROLS, SHARED_STEPS, all_levels
from usae.showing.figures.theme import MISSING, MUTED, OKABE_ITO, PAPER, RC, Picture, headline, sentence
from usae.showing.names import in_reading_order, run_name

STEPS = (
    "Alive: fires on a held-out token. In all models: in each of them. Significant: 20 fires in each, and more "
    "co-fires than where any one model is re-paired, at a false discovery rate of 5 %. Agreement: all models fire "
    "on at least `measure.agreement` of the fires of each. Beyond controls: beyond chance by more than 95 % "
    "of the significant concepts of controls with untrained networks or re-paired images. Stable: comes back in "
    "both SAEs that saw one half of the training images each, asked of the run and its start alone: hollow."
)


@dataclass(frozen=True)
class FunnelCounts:
    """What table `funnel` says of one SAE.

    shared: concepts that pass all steps but the last; agreement: the median of theirs. again: those that come back
    in both halves of the images; None where no SAE saw halves. controlled: whether a control was trained; else
    `shared` ends with the agreement of the models.
    """

    alive: int
    shared: int
    agreement: float
    again: int | None
    controlled: bool

    @property
    def verb(self) -> str:
        """What the models do with `shared` concepts."""
        return "share" if self.controlled else "agree, no control asked, on"


def run_counts(funnel: pd.DataFrame, start: bool = False) -> FunnelCounts | None:
    """Of the run, or of the same before its first step; None where the table has no such rows."""
    if funnel.empty or (rows := _rows(funnel, RUN, start)).empty:
        return None
    shared = rows[rows["step"].isin(SHARED_STEPS)].iloc[-1]
    last = rows.iloc[-1]
    again = None if last["step"] in SHARED_STEPS else int(last["concepts"])
    controlled = bool((rows["step"] == BEYOND_CONTROLS).any())
    alive, count = int(rows["concepts"].iloc[0]), int(shared["concepts"])
    return FunnelCounts(alive, count, float(shared["agreement_median"]), again, controlled)


def most_by_accident(funnel: pd.DataFrame) -> "pd.Series[int]":
    """By step that any was asked, the most concepts that pass it in a control with nothing to share."""
    if funnel.empty:
        return pd.Series(dtype=int)
    trained = all_levels(funnel)[~all_levels(funnel)["start"].astype(bool)]
    nulls = trained[trained["run"].map(lambda run: is_null(str(run)))]
    return nulls.groupby("step", sort=False)["concepts"].max()


STARTED = "the run, before the first step"


@mpl.rc_context(RC)
def funnel_picture(funnel: pd.DataFrame) -> Picture:
    """A column per step, a row per SAE, a bar with its count in each: what is left of every SAE, side by side."""
    run = run_counts(funnel)
    if run is None:
        text = "Run `dvc repro measure` to ask of each concept whether it may be called universal."
        return sentence("funnel", "No concept was put to the test", text)
    accidents = most_by_accident(funnel)
    claim = _claim(run, run_counts(funnel, start=True), accidents)
    counts = _counts(funnel)
    steps = list(dict.fromkeys(funnel["step"].astype(str)))
    figure = Figure(figsize=(12.0, 1.3 + 0.33 * len(counts)), layout="constrained")
    headline(figure, claim)
    grid = figure.subplots(1, len(steps), sharex=True, sharey=True, squeeze=False)[0]
    grid[0].set(xlim=(0, 1.45 * run.alive), ylim=(len(counts) - 0.5, -0.5))
    for axes, step in zip(grid, steps, strict=True):
        _column(axes, step, counts, asked=step in accidents.index)
    note = f"{STEPS} Orange: controls with nothing to share. All bars have one scale, in concepts."
    return Picture("funnel", claim, note, figure)


def _claim(run: FunnelCounts, start: FunnelCounts | None, accidents: "pd.Series[int]") -> str:
    """Like with like: the last step that the controls were asked, too."""
    claim = f"All models {run.verb} {run.shared:,} of {run.alive:,} alive concepts"
    if start is not None:
        claim += f"; before the first step {start.shared:,}"
    if len(accidents):
        claim += f"; where there is nothing to share at most {accidents.iloc[-1]:,}"
    return claim


def _rows(funnel: pd.DataFrame, run: str, start: bool = False) -> pd.DataFrame:
    whole = all_levels(funnel)
    return whole[(whole["run"] == run) & (whole["start"] == start)]


def _counts(funnel: pd.DataFrame) -> "dict[str, pd.Series[int]]":
    """What is left of every SAE by step: of the run, of its start, then of the others in the order of reading."""
    runs = in_reading_order(dict.fromkeys(funnel["run"].astype(str)))
    left = {run: _left(funnel, run) for run in runs}
    start = _left(funnel, RUN, start=True)
    return {RUN: left.pop(RUN)} | ({STARTED: start} if len(start) else {}) | left


def _left(funnel: pd.DataFrame, run: str, start: bool = False) -> "pd.Series[int]":
    return _rows(funnel, run, start).set_index("step")["concepts"]


def _column(axes: Axes, step: str, counts: "Mapping[str, pd.Series[int]]", asked: bool) -> None:
    """One step: in the row of every SAE a bar and its count; hollow where no control was asked."""
    for row, (run, left) in enumerate(counts.items()):
        if step in left:
            _bar(axes, row, int(left[step]), run, filled=asked)
        else:
            _beside(axes, (0, row), MISSING, color=MUTED)
    axes.set_title(step, fontweight="bold")
    axes.set_yticks(range(len(counts)), [run_name(run) for run in counts])
    axes.tick_params(length=0)
    axes.set_xticks([])
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)


def _bar(axes: Axes, row: int, concepts: int, run: str, filled: bool) -> None:
    colour = _colour(run)
    look = {"color": colour} if filled else {"color": PAPER, "edgecolor": colour, "linewidth": 1.2}
    axes.barh(row, concepts, height=0.62, **look)
    _beside(axes, (concepts, row), f"{concepts:,}", weight="bold" if run == RUN else "normal")


def _beside(axes: Axes, point: tuple[float, float], text: str, **look: Any) -> None:
    axes.annotate(text, point, xytext=(4, 0), textcoords="offset points", va="center", **look)


def _colour(run: str) -> str:
    if run in (RUN, STARTED):
        return OKABE_ITO[0 if run == RUN else 5]
    return OKABE_ITO[1] if is_null(run) else MUTED
