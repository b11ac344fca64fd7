"""How evenly and how jointly the models use the concepts (paper Fig. 6), for stage `report`."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter
from scipy import stats

from usae.evidence.controls.names import SHUFFLED
from usae.evidence.metrics.firing.counts import HIGH_ENTROPY, TOP_SHARE
from usae.showing.figures.theme import (
    INK,
    MAP,
    MISSING,
    MUTED,
    OKABE_ITO,
    RC,
    Picture,
    canvas,
    model_colours,
    percent,
    sentence,
)

MOST_POINTS = 1000  # drawn one by one: more points are an image inside the SVG, longer lines are thinned
BINS = 25
NO_CODES = "Run `dvc repro measure`; if it stays so, the SAE fires on nothing: look at the loss curves."


@mpl.rc_context(RC)
def entropy_picture(concepts: pd.DataFrame, control_concepts: pd.DataFrame, models: Sequence[str]) -> Picture:
    """Histogram of firing entropy over alive concepts (paper eq. 7), and of an SAE trained on re-paired images."""
    entropy = _entropies(concepts)
    broken = control_concepts[control_concepts["run"] == SHUFFLED] if len(control_concepts) else concepts[:0]
    null = _entropies(broken)
    if not entropy.size:
        return sentence("firing_entropy", "No concept fires", NO_CODES)
    even = int((entropy > HIGH_ENTROPY).sum())
    claim = (
        f"{even:,} of {entropy.size:,} alive concepts ({percent(even / entropy.size)}) fire about equally often "
        f"in all {len(models)} models"
    )
    figure, axes = canvas(claim)
    axes.hist(
        entropy, bins=BINS, range=(0, 1), color=OKABE_ITO[0], edgecolor="white", linewidth=0.6, label="the run"
    )
    if null.size:
        axes.hist(
            null,
            bins=BINS,
            range=(0, 1),
            histtype="step",
            color=OKABE_ITO[1],
            linewidth=1.8,
            label="trained on\nre-paired images",
        )
        axes.legend(loc="upper left")
    for count in range(2, len(models)):
        level = np.log(count) / np.log(len(models))
        axes.axvline(level, color=MUTED, linestyle="--", linewidth=1.2)
        axes.text(
            level - 0.01,
            0.97,
            f"{count} models\nequally",
            transform=axes.get_xaxis_transform(),
            ha="right",
            va="top",
            color=MUTED,
        )
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="firing entropy (0 = one model only, 1 = all equally)", ylabel="concepts", xlim=(0, 1))
    beside = f" With images re-paired between the models, and only positions in common, it is {_share_even(null)}."
    note = (
        "Equal rates do not mean the same tokens: see the co-firing figures. "
        f"'About equally' is above {HIGH_ENTROPY}.{beside if null.size else ''}"
    )
    return Picture("firing_entropy", claim, note, figure)


@mpl.rc_context(RC)
def rank_picture(concept_models: pd.DataFrame, models: Sequence[str]) -> Picture:
    """Co-fire proportion by energy rank, one smoothed line per model (paper eq. 8 and 9)."""
    lines = {model: _ranked(concept_models, model) for model in models}
    everything = np.concatenate(list(lines.values()))
    if not everything.size:
        return sentence("cofire_by_rank", "No concept fires", NO_CODES)
    heads, tails = zip(*(_head_and_tail(line) for line in lines.values() if line.size), strict=True)
    claim = (
        f"When one of a model's strongest concepts fires, all models fire {percent(float(np.mean(heads)))} of the "
        f"time; for the others {percent(float(np.mean(tails)))}"
    )
    figure, axes = canvas(claim)
    for model, colour in model_colours(models).items():
        line = lines[model]
        window = max(3, line.size // 40)
        smooth = pd.Series(line).rolling(window, center=True, min_periods=1).mean()
        keep = np.unique(np.linspace(0, max(line.size - 1, 0), min(MOST_POINTS, line.size)).astype(int))
        axes.plot(1 + keep, smooth.to_numpy()[keep], color=colour, label=model)
    axes.set(xlabel="rank of the concept by energy in that model", ylabel="co-fires / fires of that model")
    axes.set_ylim(0, None)
    axes.set_xlim(1, None)
    axes.legend(title="fires of")
    note = "Running mean over a fortieth of the ranks. 'Strongest' is the top sixth by energy, as 1000 of 6144."
    return Picture("cofire_by_rank", claim, note, figure)


@mpl.rc_context(RC)
def energy_picture(concepts: pd.DataFrame) -> Picture:
    """Energy against co-fires on logarithmic axes, with correlation and slope."""
    cofiring = concepts[(concepts["cofires"] > 0) & (concepts["energy"] > 0)]
    if len(cofiring) < 3 or cofiring["cofires"].nunique() < 2:
        text = f"{len(cofiring)} concepts co-fire at all; three that differ are needed for a line. {NO_CODES}"
        return sentence("cofires_energy", "The models do not co-fire", text)
    cofires, energy = cofiring["cofires"].to_numpy(np.float64), cofiring["energy"].to_numpy(np.float64)
    fit = stats.linregress(np.log10(cofires), np.log10(energy))
    direction = "stronger" if fit.slope > 0 else "weaker"
    claim = f"Concepts that co-fire more are {direction}: r = {fit.rvalue:.2f}, slope {fit.slope:.2f} (log-log)"
    figure, axes = canvas(claim)
    points = axes.scatter(
        cofires,
        energy,
        c=cofiring["firing_entropy"].to_numpy(np.float64),
        cmap=MAP,
        vmin=0,
        vmax=1,
        s=16,
        linewidths=0,
        alpha=0.85,
        rasterized=len(cofiring) > MOST_POINTS,
    )
    ends = np.array([cofires.min(), cofires.max()])
    axes.plot(ends, 10 ** (fit.intercept + fit.slope * np.log10(ends)), color=INK, linewidth=1.5)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="co-fires (tokens on which all models fire)",
        ylabel="energy (norm of the mean contribution)",
    )
    _plain_decades(axes.xaxis)
    _plain_decades(axes.yaxis)
    figure.colorbar(points, ax=axes, label="firing entropy")
    note = (
        f"{len(cofiring):,} of {len(concepts):,} concepts co-fire. Part of this is mechanical: models that fire "
        "independently, but at similar rates, show it too. Read it beside the lift."
    )
    return Picture("cofires_energy", claim, note, figure)


def _entropies(concepts: pd.DataFrame) -> np.ndarray:
    """Those of the concepts that fire."""
    values = concepts["firing_entropy"].to_numpy(dtype=np.float64, na_value=np.nan)
    return np.asarray(values[np.isfinite(values)])


def _share_even(entropy: np.ndarray) -> str:
    return percent(float((entropy > HIGH_ENTROPY).mean())) if entropy.size else MISSING


def _ranked(concept_models: pd.DataFrame, model: str) -> np.ndarray:
    """Co-fire proportions of the concepts that fire in a model, strongest first."""
    rows = concept_models[(concept_models["model"] == model) & (concept_models["fires"] > 0)]
    ordered = rows.sort_values(["energy", "concept_id"], ascending=[False, True])
    return ordered["cofire_proportion"].to_numpy(dtype=np.float64, na_value=np.nan)


def _head_and_tail(line: np.ndarray) -> tuple[float, float]:
    cut = max(1, round(TOP_SHARE * line.size))
    return float(line[:cut].mean()), float(line[cut:].mean()) if line.size > cut else 0.0


def _plain_decades(axis: Axis) -> None:
    """Logarithmic ticks as 1, 2, 5, 10, 20, not as powers."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
