"""From the universal SAE to the crosscoder, one switch at a time (stage `report`, from table `methods`)."""

import textwrap

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from usae.showing.figures.method_style import colour_of, nothing
from usae.showing.figures.theme import INK, MUTED, RC, Picture, headline
from usae.showing.results.compared import BEFORE, JOINT, Compared, ComparedMethod

LADDER = {
    "usae": "a token has one source",
    "usae_all": "every model a source",
    "sparc_local": "a cross pair weighs less",
    "sparc": "the sum selects",
    "crosscoder_unit": "the sum gives values",
    "crosscoder": "free norms, batch selects",
}
CHARACTERS = 30  # in a line beside a rung
PANELS = {
    "r2_self_mean": "self R²",
    "r2_cross_mean": "cross R², one model's codes",
    "shared": "shared, concepts",
    "l0": "codes per token",
    "label_auc": "label AUC",
}


@mpl.rc_context(RC)
def ladder_picture(compared: Compared) -> Picture:
    """A panel per measure, a row per rung; circles: before the first step."""
    name = "method_ladder"
    rungs = [each for each in map(compared.named, LADDER) if each is not None]
    if len(rungs) < 2:
        return nothing(name, "There are no two rungs between the universal SAE and the crosscoder")
    claim = _claim(compared, rungs)
    shown = [measure for measure in PANELS if any(np.isfinite(compared.value(each, measure)) for each in rungs)]
    figure = Figure(figsize=(2.3 * len(shown) + 3.0, 2.6 + 0.7 * len(rungs)), layout="constrained")
    headline(figure, claim)
    row = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, measure in zip(row, shown, strict=True):
        _panel(axes, compared, rungs, measure)
    above = [None, *rungs[:-1]]
    row[0].set_yticks(range(len(rungs)), [_named(each, last) for each, last in zip(rungs, above, strict=True)])
    row[0].set_ylim(len(rungs) - 0.5, -0.5)
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside lower left", ncols=2)
    note = (
        "Below each name: what it changes of the one above it, one thing where no rung is missing. Everything is "
        "read from one model's codes; a crosscoder, which has none, by its calibrated form."
    )
    return Picture(name, claim, note, figure)


def _claim(compared: Compared, rungs: list[ComparedMethod]) -> str:
    """The rung at which cross R2 changes most."""
    r2 = np.array([compared.across(each) for each in rungs])
    changes = np.diff(r2)
    if not np.isfinite(changes).any():
        return "From the universal SAE to the crosscoder, one switch at a time"
    most = int(np.nanargmax(np.abs(changes)))
    above, below = rungs[most], rungs[most + 1]
    return (
        f"Cross R² changes most from {above.label} ({r2[most]:.2f}) to {below.label} ({r2[most + 1]:.2f}): "
        f"{_switches(above, below)}"
    )


def _named(rung: ComparedMethod, above: ComparedMethod | None) -> str:
    """Its name and, below it, what it changes."""
    changes = _switches(above, rung) if above else LADDER[rung.method]
    return f"{rung.label}\n{textwrap.fill(changes, CHARACTERS)}"


def _switches(above: ComparedMethod, below: ComparedMethod) -> str:
    """What `below` changes of `above`, the rungs between them too."""
    names = list(LADDER)
    first, last = (names.index(each.method) for each in (above, below))
    return ", ".join(LADDER[name] for name in names[first + 1 : last + 1])


def _panel(axes: Axes, compared: Compared, rungs: list[ComparedMethod], measure: str) -> None:
    heights = range(len(rungs))
    after, before = (
        [compared.value(each, measure, *run) for each in rungs] for run in ((), (BEFORE,))
    )  # what both runs say
    colours = [colour_of(each) if each.block == JOINT else MUTED for each in rungs]
    axes.plot(after, heights, color=MUTED, linewidth=1.0, alpha=0.4)
    axes.scatter(after, heights, s=60, c=colours, linewidths=0, zorder=3, label="after training")
    axes.scatter(
        before, heights, s=42, marker="x", color=INK, linewidths=1.5, label="before the first step", zorder=2
    )
    for height, value in zip(heights, after, strict=True):
        if np.isfinite(value):
            text = f"{value:.0f}" if measure == "shared" else f"{value:.3g}"
            axes.annotate(
                text, (value, height), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=9.5
            )
    axes.set_title(PANELS[measure])
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.margins(x=0.3)
