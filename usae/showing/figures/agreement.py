"""How far the models agree on a concept, and how the counts hang on what is asked (stage `report`)."""

import textwrap

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from usae.common.numerics.significance import FALSE_DISCOVERY_RATE
from usae.evidence.controls.names import RUN
from usae.showing.figures.theme import INK, OKABE_ITO, RC, Picture, canvas, headline, percent, sentence
from usae.showing.names import THRESHOLDS

BINS = 30
WRAPPED = 18  # characters of an axis' label in a line
COUNTED = {"shared": ("shared by all models", OKABE_ITO[0]), "universal": ("and found again", OKABE_ITO[1])}


@mpl.rc_context(RC)
def agreement_picture(control_concepts: pd.DataFrame, least: float) -> Picture:
    """Smallest co-fire proportions of the run's significant concepts, beside those before the first step.

    least: what the funnel asks for (`measure.agreement`).
    """
    after, before = (_proportions(control_concepts, start) for start in (False, True))
    if not after.size:
        text = "Run `dvc repro contrast` to test every concept against re-paired images."
        return sentence("agreement", "No concept co-fires significantly in all models", text)
    claim = _claim(after, before, least)
    figure, axes = canvas(claim)
    edges = np.geomspace(min(float(np.concatenate([after, before]).min()), least), 1, BINS + 1)
    axes.hist(after, list(edges), color=OKABE_ITO[0], edgecolor="white", linewidth=0.6, label="the run")
    if before.size:
        axes.hist(before, list(edges), histtype="step", color=INK, linewidth=1.6, label="before the first step")
    axes.axvline(least, color=OKABE_ITO[1], linestyle="--", linewidth=1.6, label=f"asked: {percent(least)}")
    axes.set(xscale="log", xlabel="agreement: co-fires / fires of the busiest model", ylabel="concepts")
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.legend()
    note = (
        "Concepts with 20 fires in each model whose co-fires are beyond those with any one model re-paired, at a "
        "false discovery rate of 5 %. Beyond chance is not yet much: the agreement is the size of the effect."
    )
    return Picture("agreement", claim, note, figure)


@mpl.rc_context(RC)
def sensitivity_picture(sensitivity: pd.DataFrame) -> Picture:
    """One panel per threshold of the funnel: how many concepts are shared and found again at other values."""
    if sensitivity.empty:
        text = "Run `dvc repro contrast` to count the concepts at other thresholds."
        return sentence("sensitivity", "The counts were made at one threshold only", text)
    claim = _sensitivity_claim(sensitivity[sensitivity["threshold"] == "agreement"])
    names = [name for name in THRESHOLDS if (sensitivity["threshold"] == name).any()]
    figure = Figure(figsize=(11.0, 4.2), layout="constrained")
    headline(figure, claim)
    row = np.ravel(figure.subplots(1, len(names), sharey=True))
    for axes, name in zip(row, names, strict=True):
        _panel(axes, sensitivity[sensitivity["threshold"] == name], textwrap.fill(THRESHOLDS[name], WRAPPED))
    row[0].set(ylabel="concepts", ylim=(0, None))
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    note = "One threshold is moved, the others stay as they are. Dashed: the same SAE before its first step."
    return Picture("sensitivity", claim, note, figure)


def _proportions(control_concepts: pd.DataFrame, start: bool) -> np.ndarray:
    """Above 0, of the run's concepts that co-fire significantly; q is null where a model has too few fires."""
    if control_concepts.empty:
        return np.empty(0)
    rows = control_concepts[(control_concepts["run"] == RUN) & (control_concepts["start"] == start)]
    values = rows.loc[rows["q"] <= FALSE_DISCOVERY_RATE, "cofire_proportion_min"].to_numpy(np.float64)
    return np.asarray(values[values > 0])


def _claim(after: np.ndarray, before: np.ndarray, least: float) -> str:
    claim = (
        f"{(after >= least).sum():,} of {after.size:,} concepts that pass step significant agree on "
        f"{percent(least)} of their fires, the median one on {percent(float(np.median(after)))}"
    )
    if not before.size:
        return claim
    return f"{claim}; before the first step {(before >= least).sum():,} of {before.size:,}"


def _sensitivity_claim(rows: pd.DataFrame) -> str:
    counts = {start: part.sort_values("value") for start, part in rows.groupby("start")}
    if False not in counts:
        return "How many concepts are left depends on what is asked"
    run = counts[False]
    claim = (
        f"Asked to agree on {percent(run['value'].iloc[0])} of their fires, {run['shared'].iloc[0]:,} concepts "
        f"are shared by all models, on {percent(run['value'].iloc[-1])} {run['shared'].iloc[-1]:,}"
    )
    if True not in counts:
        return claim
    start = counts[True]["shared"]
    return f"{claim}; before the first step {start.iloc[0]:,} and {start.iloc[-1]:,}"


def _panel(axes: Axes, rows: pd.DataFrame, title: str) -> None:
    for start, part in rows.groupby("start"):
        ordered = part.sort_values("value")
        for name, (label, colour) in COUNTED.items():
            axes.plot(
                range(len(ordered)),
                ordered[name],
                "--" if start else "-",
                color=colour,
                marker="o",
                markersize=4,
                linewidth=1.4 if start else 2.0,
                label=f"{label}, before the first step" if start else label,
            )
    axes.set_xticks(range(rows["value"].nunique()), [f"{value:g}" for value in sorted(rows["value"].unique())])
    axes.set_title(title)
    axes.margins(x=0.1)
