"""Which measures notice that something is broken: the run beside its controls and its start (stage `report`)."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from usae.evidence.controls.names import RUN, SHUFFLED, TWIN, beside_controls
from usae.showing.figures.theme import INK, MISSING, MUTED, OKABE_ITO, RC, Picture, headline, sentence
from usae.showing.names import MEASURES, in_reading_order, run_name

PANELS = (
    *("shared", "significant_share", "cofire_proportion_min_median", "lift_median", "r2_cross_mean"),
    *("cofire_proportion_mean", "firing_entropy_median", "firing_entropy_high_share"),
)
TWIN_NOTE = (
    "The controls learnt from fewer images or for fewer epochs than the run. The twin is the run's recipe with as "
    "few: compare the controls with it."
)
CLAIMED = {"shared": "shared concepts", "r2_cross_mean": "cross R²", "firing_entropy_median": "firing entropy"}


@mpl.rc_context(RC)
def controls_picture(controls: pd.DataFrame) -> Picture:
    """One panel per measure, one row per run: after training, before the first step, with a model re-paired."""
    if controls.empty:
        text = "Run `dvc repro contrast` to train the controls and to measure them."
        return sentence("controls", "There is no control to compare with", text)
    runs = in_reading_order(dict.fromkeys(controls.loc[controls["measure"].isin(PANELS), "run"].astype(str)))
    claim = _claim(controls)
    figure = Figure(figsize=(12.0, 2.6 + 0.46 * len(runs)), layout="constrained")
    headline(figure, claim)
    grid = np.ravel(figure.subplots(2, 4, sharey=True))
    for axes, measure in zip(grid, PANELS, strict=True):
        _panel(axes, controls[controls["measure"] == measure].set_index("run").reindex(runs), MEASURES[measure])
    grid[0].invert_yaxis()
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    note = (
        "All on the same held-out images. Circles: with one model re-paired, the one that costs least, where "
        "there is such a value. A measure that looks alike in the run and with a model re-paired says nothing of "
        "what is shared; one that looks alike before the first step says nothing of training. What untrained "
        "networks share comes from the pixels and the architecture."
    )
    if TWIN in set(controls["run"]):
        note += f" {TWIN_NOTE}"
    return Picture("controls", claim, note, figure)


def _claim(controls: pd.DataFrame) -> str:
    names = zip(controls["run"], controls["measure"], strict=True)
    values = dict(zip(names, controls["value"].astype(float).tolist(), strict=True))
    run = beside_controls(set(controls["run"]))
    changes = [
        f"{name} from {_short(values[run, measure])} to {_short(values[SHUFFLED, measure])}"
        for measure, name in CLAIMED.items()
        if (run, measure) in values and (SHUFFLED, measure) in values
    ]
    if not changes:
        return "The run beside its controls"
    return f"Trained on re-paired images in place of matching ones: {', '.join(changes)}"


def _panel(axes: Axes, rows: pd.DataFrame, title: str) -> None:
    heights = np.arange(len(rows))
    colours = [OKABE_ITO[0] if run in (RUN, TWIN) else INK for run in rows.index]
    axes.axvline(0, color=MUTED, linewidth=1.0)
    axes.scatter(rows["value"], heights, s=46, c=colours, linewidths=0, label="after training", zorder=3)
    axes.scatter(
        rows["start"], heights, s=42, marker="x", color=OKABE_ITO[1], linewidths=1.6, label="before the first step"
    )
    axes.scatter(
        rows["null"], heights, s=46, facecolors="none", edgecolors=MUTED, linewidths=1.4, label="a model re-paired"
    )
    axes.set_yticks(heights, labels=[run_name(run) for run in rows.index])
    axes.set_title(title)
    axes.margins(x=0.12, y=0.06)


def _short(value: float) -> str:
    if not np.isfinite(value):
        return MISSING
    return f"{value:.0f}" if value.is_integer() else f"{value:.2f}"
