"""Methods side by side: what training adds to them, what looking at the target is worth, labels and cost.

Stage `report`, from table `methods` of stage `compare`.
"""

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from usae.showing.figures.method_style import (
    ROW,
    apart,
    block_legend,
    colour_of,
    having,
    name_rows,
    nothing,
    part_blocks,
)
from usae.showing.figures.theme import INK, MUTED, PAPER, RC, Picture, canvas, explained, headline
from usae.showing.results.compared import ALL, BEFORE, BOUNDS, END, MODES, REPAIRED, Compared, ComparedMethod

CROSS, SHARED, LABELS = "r2_cross_mean", "shared", "label_auc"
MODE_NAMES = {
    "single": "single: from one other model alone",
    "others": "others: from all models but the target",
    "joint": "joint: from all models, sees the target",
}
OPACITY = {"single": 1.0, "others": 0.5}
COSTS = {"steps": "steps", "encoder_updates": "encoder updates", "gflop": "GFLOP"}


@mpl.rc_context(RC)
def translation_picture(compared: Compared) -> Picture:
    """Cross R2 against shared concepts: a point per method, an arrow from before its first step."""
    name = "method_translation"
    points = [each for each in having(compared, [SHARED]) if np.isfinite(compared.across(each))]
    if not points:
        return nothing(name, "No method was compared")
    claim = _translation_claim(compared, points)
    figure, axes = canvas(claim, width=10.5, height=max(5.0, 2.2 + 0.3 * len(points)))
    for each in points:
        _point(axes, compared, each)
    if np.isfinite(compared.ceiling()):
        axes.axhline(compared.ceiling(), color=MUTED, linestyle="--", linewidth=1.2)
    axes.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
    _name_points(axes, compared, points)
    axes.set(xlabel="concepts shared by all models", ylabel="cross R², codes of one other model")
    figure.legend(handles=[*block_legend(points), *_signs(compared)], loc="outside lower left", ncols=3)
    note = (
        "Arrows start where the same method stands before its first step: their length is what training adds. "
        "Circles: trained or fitted on re-paired images. Bars: the range over seeds, where there are several. The "
        "horizontal scale is that of square roots. Methods without concepts are in the table only."
    )
    return Picture(name, claim, note, figure)


@mpl.rc_context(RC)
def modes_picture(compared: Compared) -> Picture:
    """Three bars per method: codes of one other model, of all others, and of all models, the target too."""
    name = "method_modes"
    rows = [each for each in compared.methods if _measured(compared, each)]
    if not rows:
        return nothing(name, "No method was compared")
    claim = _modes_claim(compared)
    figure, axes = canvas(claim, width=9.0, height=2.4 + 1.35 * ROW * len(rows))
    colours = [colour_of(each) for each in rows]
    for place, mode in enumerate(MODES):
        _bars(axes, [compared.across(each, mode) for each in rows], place, colours)
    axes.axvline(0, color=MUTED, linewidth=1.0)
    name_rows(axes, rows)
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="held-out R² about the channel means, mean over targets")
    patches = [Patch(label=MODE_NAMES[mode], **_filling(mode, INK)) for mode in MODES]
    figure.legend(handles=patches, loc="outside lower left", ncols=1)
    note = (
        "Only the upper bar says how well one model's codes speak of another model. The grey one is an "
        "autoencoder of all models together: the target itself chose and filled the codes: no translation "
        "and no win. No bar: not measured."
    )
    return Picture(name, claim, note, figure)


@mpl.rc_context(RC)
def costs_picture(compared: Compared) -> Picture:
    """Label AUC before and after training, and what the training cost: a row per method."""
    name = "method_costs"
    rows = having(compared, [LABELS, *COSTS])
    if not rows:
        return nothing(name, "Neither labels nor costs of a method were measured")
    claim = _costs_claim(compared, rows)
    panels = [measure for measure in COSTS if any(np.isfinite(compared.value(each, measure)) for each in rows)]
    figure = Figure(figsize=(11.0, 2.4 + ROW * len(rows)), layout="constrained")
    headline(figure, claim)
    ratios = [2.2, *[1.0] * len(panels)]
    first, *others = figure.subplots(1, len(ratios), sharey=True, width_ratios=ratios, squeeze=False)[0]
    _label_panel(first, compared, rows)
    for axes, measure in zip(others, panels, strict=True):
        _cost_panel(axes, compared, rows, measure)
    signs = [_mark("o", INK, "after training or fitting"), _mark("x", INK, "before the first step")]
    figure.legend(handles=[*block_legend(rows), *signs], loc="outside lower left", ncols=3)
    note = (
        "Label AUC: of the best concept of each label, from codes of one model. Costs are of training alone, on "
        "logarithmic scales; a method fitted in closed form has none. What reads every token from every model "
        "computes more than what reads it from one."
    )
    return Picture(name, claim, note, figure)


def _measured(compared: Compared, each: ComparedMethod) -> bool:
    return any(np.isfinite(compared.across(each, mode)) for mode in MODES)


def _bars(axes: Axes, values: list[float], place: int, colours: list[str]) -> None:
    """One mode's bars; none where nothing was measured."""
    heights = np.arange(len(values)) + 0.27 * (place - 1)
    for height, value, colour in zip(heights, values, colours, strict=True):
        axes.barh(height, value, 0.24, **_filling(MODES[place], colour))


def _filling(mode: str, colour: str) -> dict[str, Any]:
    if mode == ALL:
        return {"facecolor": MUTED, "hatch": "///", "edgecolor": PAPER, "linewidth": 0.0}
    return {"facecolor": colour, "alpha": OPACITY[mode], "linewidth": 0.0}


def _translation_claim(compared: Compared, points: list[ComparedMethod]) -> str:
    best = max(points, key=compared.across)
    most = max(points, key=lambda each: compared.value(each, SHARED))
    ceiling = compared.ceiling()
    linear = f" (the best linear map: {explained(ceiling)})" if np.isfinite(ceiling) else ""
    before = compared.value(most, SHARED, BEFORE)
    start = f", before its first step {before:,.0f}" if np.isfinite(before) else ""
    return (
        f"Read from one other model, {best.label} explains most: {explained(compared.across(best))} of the "
        f"variance{linear}; {most.label} shares most concepts: {compared.value(most, SHARED):,.0f}{start}"
    )


def _place(compared: Compared, each: ComparedMethod, run: str = END) -> tuple[float, float]:
    return compared.value(each, SHARED, run), compared.across(each, run=run)


def _point(axes: Axes, compared: Compared, each: ComparedMethod) -> None:
    """The method, its seeds, its start and its twin on re-paired images."""
    colour, end = colour_of(each), _place(compared, each)
    counts, r2 = compared.seeds(each, SHARED), compared.seeds(each, CROSS)
    axes.plot([min(counts), max(counts)], [end[1]] * 2, color=colour, linewidth=1.4)
    axes.plot([end[0]] * 2, [min(r2), max(r2)], color=colour, linewidth=1.4)
    start, repaired = _place(compared, each, BEFORE), _place(compared, each, REPAIRED)
    if np.isfinite(start).all():
        arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.0, "alpha": 0.6, "shrinkA": 0, "shrinkB": 3}
        axes.annotate("", xy=end, xytext=start, arrowprops=arrow)
        axes.plot(*start, "x", color=colour, markersize=5, clip_on=False)
    if np.isfinite(repaired).all():
        axes.plot(*repaired, "o", markerfacecolor="none", markeredgecolor=colour, markersize=6, clip_on=False)
    axes.plot(*end, "o", color=colour, markersize=8, zorder=4, clip_on=False)


def _name_points(axes: Axes, compared: Compared, points: list[ComparedMethod]) -> None:
    """Names at the right edge, joined with their points by thin lines."""
    values = [compared.across(each) for each in points]
    low, high = axes.get_ylim()
    span = high - low
    heights = apart(values, 0.052 * span, low + 0.01 * span, high - 0.01 * span)
    counts = [compared.value(each, SHARED, run) for each in points for run in (BEFORE, REPAIRED)]
    counts += [count for each in points for count in compared.seeds(each, SHARED)]
    axes.set_xlim(0, 1.05 * max(1.0, np.nanmax(counts)))
    for each, height in zip(points, heights, strict=True):
        line = {"arrowstyle": "-", "color": colour_of(each), "linewidth": 0.6, "alpha": 0.5, "relpos": (0, 0.5)}
        axes.annotate(each.label, xy=_place(compared, each), xytext=(1.04, (height - low) / span), va="center",
                      textcoords="axes fraction", arrowprops=line, fontsize=10.5)  # fmt: skip


def _mark(marker: str, colour: str, label: str, filled: bool = True) -> Line2D:
    face = colour if filled else "none"
    return Line2D([], [], marker=marker, linestyle="", color=colour, markerfacecolor=face, label=label)


def _signs(compared: Compared) -> list[Line2D]:
    signs = [_mark("x", MUTED, "before the first step"), _mark("o", MUTED, "on re-paired images", filled=False)]
    if np.isfinite(compared.ceiling()):
        signs.append(Line2D([], [], color=MUTED, linestyle="--", linewidth=1.2, label="ridge, the linear ceiling"))
    return signs


def _modes_claim(compared: Compared) -> str:
    trained = [each for each in compared.methods if each.block != BOUNDS]
    gains = [compared.across(each, ALL) - compared.across(each) for each in trained]
    if not np.isfinite(gains).any():
        return "How well codes of one model, of all others and of all explain a model"
    most = trained[int(np.nanargmax(gains))]
    single, joint = compared.across(most), compared.across(most, ALL)
    return (
        f"Looking at the target is worth most to {most.label}: R² {joint:.2f} with it, {single:.2f} from one other"
        " model alone"
    )


def _costs_claim(compared: Compared, rows: list[ComparedMethod]) -> str:
    labelled = [each for each in rows if np.isfinite(compared.value(each, LABELS))]
    if not labelled:
        return "What training each method costs"
    best = max(labelled, key=lambda each: compared.value(each, LABELS))
    before = compared.value(best, LABELS, BEFORE)
    start = f", before its first step {before:.2f}" if np.isfinite(before) else ""
    return f"Single concepts of {best.label} say most of labels: AUC {compared.value(best, LABELS):.2f}{start}"


def _label_panel(axes: Axes, compared: Compared, rows: list[ComparedMethod]) -> None:
    for height, each in enumerate(rows):
        before, after = (compared.value(each, LABELS, run) for run in (BEFORE, END))
        axes.plot([before, after], [height] * 2, color=colour_of(each), linewidth=1.6, alpha=0.6)
        axes.plot(before, height, "x", color=colour_of(each), markersize=6)
        axes.plot(after, height, "o", color=colour_of(each), markersize=7)
    name_rows(axes, rows)
    axes.set_title("label AUC of the best concept")
    axes.margins(x=0.08)


def _cost_panel(axes: Axes, compared: Compared, rows: list[ComparedMethod], measure: str) -> None:
    values = [compared.value(each, measure) for each in rows]
    for height, (each, value) in enumerate(zip(rows, values, strict=True)):
        axes.plot(value, height, "o", color=colour_of(each), markersize=7)
        if np.isfinite(value):
            axes.annotate(f"{value:,.0f}", (value, height), xytext=(7, 0), textcoords="offset points", va="center",
                          fontsize=9.5)  # fmt: skip
    part_blocks(axes, rows)
    axes.set_xscale("log")
    axes.set_title(COSTS[measure])
    low, high = np.nanmin(values), np.nanmax(values)
    axes.set_xlim(low / 1.5, high * 1.5 * (high / low + 1.5))
    axes.xaxis.set_major_locator(NullLocator())
    axes.xaxis.set_minor_locator(NullLocator())
