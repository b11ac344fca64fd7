"""The funnel of every method beside its own floors (stage `report`, from table `method_funnel`)."""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from usae.showing.figures.method_style import RANDOM_COLOUR, REPAIRED_COLOUR, colour_of, nothing
from usae.showing.figures.theme import INK, RC, Picture, headline
from usae.showing.results.compared import BEFORE, END, RANDOM, REPAIRED, Compared, ComparedMethod

NAME = "method_funnels"
COLUMNS = 5
FLOORS = {
    REPAIRED: ("on re-paired images", REPAIRED_COLOUR, ":"),
    RANDOM: ("on untrained networks", RANDOM_COLOUR, ":"),
    BEFORE: ("before the first step", INK, "--"),
}


@mpl.rc_context(RC)
def method_funnels_picture(compared: Compared) -> Picture:
    """A panel per method: concepts left after each step, of the run, its start and twins with nothing to share."""
    methods = [each for each in compared.methods if compared.steps(each)]
    if not methods:
        return nothing(NAME, "No method's concepts were put to the test")
    claim = _claim(compared, methods)
    columns = min(COLUMNS, len(methods))
    rows = -(-len(methods) // columns)
    figure = Figure(figsize=(max(6.0, 2.35 * columns + 0.6), 2.6 + 1.8 * rows), layout="constrained")
    headline(figure, claim)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes, each in zip(grid, methods, strict=False):
        _panel(axes, compared, each)
    grid[0].set_yscale("symlog", linthresh=1)
    grid[0].set_yticks([0, 1, 10, 100, 1000, 10000], ["0", "1", "10", "100", "1,000", "10,000"])
    grid[0].set_ylim(-0.15, 2.5 * max(max(compared.steps(each).values()) for each in methods))
    for axes in grid[len(methods) :]:
        axes.set_visible(False)
    handles = {line.get_label(): line for axes in grid for line in axes.get_lines()}
    steps = ", ".join(f"{place} {step}" for place, step in enumerate(compared.steps(methods[0]), 1))
    figure.legend(handles=list(handles.values()), loc="outside lower left", ncols=2, title=f"Steps: {steps}",
                  alignment="left")  # fmt: skip
    figure.supylabel("concepts left after each step", fontsize=12)
    note = (
        "All steps but the last one of the run's own funnel, asked of every method alike. What a method reaches "
        "before its first step, or on re-paired images, its training has not shown. The scale is logarithmic from "
        "1 on."
    )
    return Picture(NAME, claim, note, figure)


def _claim(compared: Compared, methods: list[ComparedMethod]) -> str:
    asked = [each for each in methods if np.isfinite(compared.floor(each))]
    above = [each for each in asked if compared.beyond(each) > 0]
    if not asked:
        return "How many concepts of each method pass the funnel"
    claim = (
        f"{len(above)} of {len(asked)} methods share more concepts than before training and on re-paired images"
    )
    if not above:
        return claim
    most = max(above, key=compared.beyond)
    shared = compared.value(most, "shared", compared.beside_controls(most))
    return f"{claim}, {most.label} most: {shared:,.0f} to {compared.floor(most):,.0f}"


def _panel(axes: Axes, compared: Compared, each: ComparedMethod) -> None:
    for run, (label, colour, style) in FLOORS.items():
        left = list(compared.steps(each, run).values())
        if left:
            axes.plot(range(1, 1 + len(left)), left, style, color=colour, linewidth=1.5, label=label)
    left = list(compared.steps(each, END).values())
    steps = range(1, 1 + len(left))
    axes.plot(steps, left, color=colour_of(each), linewidth=2.2, marker="o", markersize=4, label=each.block)
    end = (len(left), left[-1])
    axes.annotate(f"{left[-1]:,}", end, xytext=(4, 3), textcoords="offset points", fontsize=9.5)
    axes.set_title(each.label, fontsize=10.5)
    axes.set_xticks(steps)
    axes.margins(x=0.14)
