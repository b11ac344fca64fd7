"""How evenly and how jointly the models use the concepts (paper Fig. 6), for stage `report`."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from scipy import stats

from usae.evidence.controls.names import RUN, SHUFFLED, TWIN
from usae.evidence.metrics.firing.counts import HIGH_ENTROPY, TOP_SHARE
from usae.showing.figures.theme import (
    INK,
    MAP,
    MUTED,
    OKABE_ITO,
    RC,
    Picture,
    canvas,
    model_colours,
    percent,
    plain_decades,
    sentence,
    style_line,
)

MOST_POINTS = 1000  # drawn one by one: more points are an image inside the SVG
BINS = 25
GROUPS = 10  # of concepts of like energy
NO_CODES = "Run `dvc repro measure`; if it stays so, the SAE fires on nothing: look at the loss curves."


@mpl.rc_context(RC)
def entropy_picture(concepts: pd.DataFrame, control_concepts: pd.DataFrame, models: Sequence[str]) -> Picture:
    """Histogram of firing entropy over alive concepts (paper eq. 7), and of an SAE trained on re-paired images."""
    entropy = _entropies(concepts)
    null = _entropies(_of_run(control_concepts, SHUFFLED))
    if not entropy.size:
        return sentence("firing_entropy", "No concept fires", NO_CODES)
    even = int((entropy > HIGH_ENTROPY).sum())
    claim = (
        f"{even:,} of {entropy.size:,} alive concepts ({percent(even / entropy.size)}) fire about equally often "
        f"in all {len(models)} models{_of_re_paired(null)}"
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
        axes.legend(loc="upper left", bbox_to_anchor=(0.06, 1))
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
    note = (
        "Equal rates do not mean the same tokens: firing entropy hardly tells a run from one whose images were "
        f"re-paired between the models. 'About equally' is above {HIGH_ENTROPY}.{_of_twin(control_concepts)}"
    )
    return Picture("firing_entropy", claim, note, figure)


@mpl.rc_context(RC)
def rank_picture(concept_models: pd.DataFrame, control_concepts: pd.DataFrame, models: Sequence[str]) -> Picture:
    """Mean co-fire proportion by energy, a line per model (paper eq. 8 and 9), and with one model re-paired."""
    lines = {model: _ranked(concept_models, control_concepts, model) for model in models}
    firing = [line for line in lines.values() if len(line)]
    if not firing:
        return sentence("cofire_by_rank", "No concept fires", NO_CODES)
    (head, tail), (head_null, tail_null) = (_heads_and_tails(firing, column) for column in ("cofires", "null"))
    claim = (
        f"When one of a model's strongest concepts fires, all models fire {percent(head)} of the time"
        f"{_null_words(head_null, ' with one model re-paired')}; for the others {percent(tail)}"
        f"{_null_words(tail_null)}"
    )
    figure, axes = canvas(claim)
    for model, colour in model_colours(models).items():
        _by_energy(axes, lines[model], colour, model)
    axes.set(xlabel="rank of the concept by energy in that model", ylabel="co-fires / fires of that model")
    axes.set_ylim(0, None)
    axes.set_xlim(1, None)
    styles = [style_line("--", "with one model re-paired")] if any(map(_has_null, firing)) else []
    axes.legend(handles=[*axes.get_legend_handles_labels()[0], *styles], title="fires of")
    note = (
        f"Means over {GROUPS} groups of like energy. 'Strongest' is the top sixth by energy, as 1000 of 6144. "
        "Dashed: the co-fires that are left with the images of that model re-paired which costs least."
    )
    return Picture("cofire_by_rank", claim, note, figure)


@mpl.rc_context(RC)
def energy_picture(concepts: pd.DataFrame, controls: pd.DataFrame) -> Picture:
    """Energy against co-fires on logarithmic axes, with correlation and slope; the same correlation re-paired."""
    cofiring = concepts[(concepts["cofires"] > 0) & (concepts["energy"] > 0)]
    if len(cofiring) < 3 or cofiring["cofires"].nunique() < 2:
        text = f"{len(cofiring)} concepts co-fire at all; three that differ are needed for a line. {NO_CODES}"
        return sentence("cofires_energy", "The models do not co-fire", text)
    cofires, energy = cofiring["cofires"].to_numpy(np.float64), cofiring["energy"].to_numpy(np.float64)
    fit = stats.linregress(np.log10(cofires), np.log10(energy))
    direction = "stronger" if fit.slope > 0 else "weaker"
    claim = (
        f"Concepts that co-fire more are {direction}: r = {fit.rvalue:.2f}, slope {fit.slope:.2f} (log-log)"
        f"{_importance_of_re_paired(controls)}"
    )
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
    plain_decades(axes.xaxis)
    plain_decades(axes.yaxis)
    figure.colorbar(points, ax=axes, label="firing entropy")
    note = (
        f"{len(cofiring):,} of {len(concepts):,} concepts co-fire. Part of this is mechanical: models that fire "
        "independently, but at similar rates, show it too. Read it beside the lift."
    )
    return Picture("cofires_energy", claim, note, figure)


def _of_run(control_concepts: pd.DataFrame, run: str) -> pd.DataFrame:
    """Of a run after training, not before its first step; no row where no control was measured."""
    if control_concepts.empty:
        return pd.DataFrame(columns=["concept_id", "firing_entropy", "null_mean"], dtype=np.float64)
    return control_concepts[(control_concepts["run"] == run) & ~control_concepts["start"].astype(bool)]


def _importance_of_re_paired(controls: pd.DataFrame) -> str:
    """The correlation in an SAE trained on re-paired images, where it was measured."""
    if controls.empty:
        return ""
    rows = controls[(controls["run"] == SHUFFLED) & (controls["measure"] == "importance_r")]
    return f"; trained on re-paired images r = {rows['value'].iloc[0]:.2f}" if len(rows) else ""


def _of_twin(control_concepts: pd.DataFrame) -> str:
    """What the run's twin gives, where the SAE of re-paired images was trained less than the run."""
    twin = _entropies(_of_run(control_concepts, TWIN))
    even = int((twin > HIGH_ENTROPY).sum())
    return f" Of the run's twin, trained as little, {even:,} of {twin.size:,} do." if twin.size else ""


def _entropies(concepts: pd.DataFrame) -> np.ndarray:
    """Those of the concepts that fire."""
    values = concepts["firing_entropy"].to_numpy(dtype=np.float64, na_value=np.nan)
    return np.asarray(values[np.isfinite(values)])


def _of_re_paired(entropy: np.ndarray) -> str:
    """The same of an SAE whose models have only positions in common."""
    even = int((entropy > HIGH_ENTROPY).sum())
    return f"; trained on re-paired images {even:,} of {entropy.size:,} do" if entropy.size else ""


def _ranked(concept_models: pd.DataFrame, control_concepts: pd.DataFrame, model: str) -> pd.DataFrame:
    """Of the concepts that fire in a model, strongest first: co-fires per fire, and with a model re-paired."""
    rows = concept_models[(concept_models["model"] == model) & (concept_models["fires"] > 0)]
    ordered = rows.sort_values(["energy", "concept_id"], ascending=[False, True])
    expected = _of_run(control_concepts, RUN).set_index("concept_id")["null_mean"].reindex(ordered["concept_id"])
    fires = ordered["fires"].to_numpy(np.float64)
    proportions = ordered["cofire_proportion"].to_numpy(dtype=np.float64, na_value=np.nan)
    return pd.DataFrame({"cofires": proportions, "null": expected.to_numpy(np.float64) / fires})


def _by_energy(axes: Axes, line: pd.DataFrame, colour: str, model: str) -> None:
    groups = [group for group in np.array_split(np.arange(len(line)), GROUPS) if group.size]
    middles = [1 + float(group.mean()) for group in groups]
    means = [line.iloc[group].mean() for group in groups]
    axes.plot(middles, [mean["cofires"] for mean in means], "o-", color=colour, markersize=4, label=model)
    if _has_null(line):
        axes.plot(middles, [mean["null"] for mean in means], "--", color=colour, linewidth=1.4)


def _has_null(line: pd.DataFrame) -> bool:
    return bool(line["null"].notna().any())


def _heads_and_tails(lines: Sequence[pd.DataFrame], column: str) -> tuple[float, float]:
    """Means over models of what the strongest concepts have in `column`, and of what the others have."""
    head, tail = np.mean([_head_and_tail(line[column].to_numpy()) for line in lines], axis=0)
    return float(head), float(tail)


def _head_and_tail(ranked: np.ndarray) -> tuple[float, float]:
    cut = max(1, round(TOP_SHARE * len(ranked)))
    return float(ranked[:cut].mean()), float(ranked[cut:].mean()) if len(ranked) > cut else 0.0


def _null_words(share: float, what: str = "") -> str:
    """The same share re-paired, in brackets; nothing where it was not measured."""
    return "" if np.isnan(share) else f" ({percent(share)}{what})"
