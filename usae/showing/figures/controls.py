"""Which measures notice that something is broken: the run beside its controls (stage `report`)."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from usae.evidence.controls.names import RUN, SHUFFLED
from usae.evidence.metrics.firing.counts import HIGH_ENTROPY
from usae.showing.figures.theme import INK, MISSING, MUTED, OKABE_ITO, RC, Picture, headline, percent, sentence

PANELS = {
    "firing_entropy_median": "firing entropy, median",
    "firing_entropy_high_share": f"entropy above {HIGH_ENTROPY}, share",
    "r2_cross_mean": "cross R²",
    "cofire_proportion_mean": "co-fire proportion",
    "lift_median": "lift, median",
    "significant_share": "co-fire significantly, share",
}


@mpl.rc_context(RC)
def controls_picture(controls: pd.DataFrame) -> Picture:
    """One panel per measure, one row per run; hollow: the same with re-paired held-out images."""
    if controls.empty:
        text = "Run `dvc repro contrast` to train the controls and to measure them."
        return sentence("controls", "There is no control to compare with", text)
    runs = [str(run) for run in controls["run"].unique()]
    claim = _claim(controls)
    figure = Figure(figsize=(10.0, 2.4 + 0.55 * len(runs)), layout="constrained")
    headline(figure, claim)
    grid = np.ravel(figure.subplots(2, 3, sharey=True))
    for axes, (measure, title) in zip(grid, PANELS.items(), strict=True):
        _panel(axes, controls[controls["measure"] == measure].set_index("run").reindex(runs), title)
    grid[0].invert_yaxis()
    note = (
        "Filled: on the held-out images. Hollow: with these re-paired between the models, where there is such a "
        "value. A measure that looks alike in the run and on re-paired images says nothing of what is shared. "
        "What untrained networks share comes from the pixels and the architecture."
    )
    return Picture("controls", claim, note, figure)


def _claim(controls: pd.DataFrame) -> str:
    names = zip(controls["run"], controls["measure"], strict=True)
    values = dict(zip(names, controls["value"].astype(float).tolist(), strict=True))
    if (SHUFFLED, "r2_cross_mean") not in values:
        return "The run beside its controls"
    entropy, r2 = (
        [_two(values[run, measure]) for run in (RUN, SHUFFLED)]
        for measure in ("firing_entropy_median", "r2_cross_mean")
    )
    shares = [percent(values[run, "significant_share"]) for run in (RUN, SHUFFLED)]
    return (
        f"Trained on re-paired images, firing entropy goes from {entropy[0]} to {entropy[1]}, cross R² from "
        f"{r2[0]} to {r2[1]}, the share of concepts that co-fire significantly from {shares[0]} to {shares[1]}"
    )


def _panel(axes: Axes, rows: pd.DataFrame, title: str) -> None:
    heights = np.arange(len(rows))
    colours = [OKABE_ITO[0] if run == RUN else INK for run in rows.index]
    axes.axvline(0, color=MUTED, linewidth=1.0)
    axes.scatter(rows["null"], heights, s=46, facecolors="none", edgecolors=MUTED, linewidths=1.4)
    axes.scatter(rows["value"], heights, s=46, c=colours, linewidths=0)
    axes.set_yticks(heights, labels=list(rows.index))
    axes.set_title(title)
    axes.margins(x=0.12, y=0.12)


def _two(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else MISSING
