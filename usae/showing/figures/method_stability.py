"""Do a method's concepts come back from another start of it? (stage `report`, from table `methods`)"""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from usae.evidence.metrics.funnel import Thresholds
from usae.showing.figures.method_style import apart, block_legend, colour_of, having
from usae.showing.figures.theme import RC, Picture, canvas, percent, sentence
from usae.showing.results.compared import BEFORE, END, Compared, ComparedMethod

BACK, JUDGED = "comes_back_share", "judged"


@mpl.rc_context(RC)
def method_stability_picture(compared: Compared) -> Picture:
    """A line per method, from the share before its first step to that after training."""
    name = "method_stability"
    rows = having(compared, [BACK])
    if not rows:
        text = "Set `methods.seeds` in params.yaml and run `dvc repro compare`."
        return sentence(name, "No method was trained from another start", text)
    claim = _claim(compared, rows)
    figure, axes = canvas(claim, width=11.0, height=max(4.2, 2.4 + 0.3 * len(rows)))
    for each in rows:
        _slope(axes, compared, each)
    axes.set_xticks([0, 1], ["before the first step", "after training"])
    axes.set(xlim=(-0.15, 1.03), ylim=(0, 1), ylabel="share of concepts that come back")
    axes.yaxis.set_major_formatter(lambda share, _: percent(share))
    axes.grid(visible=False, axis="x")
    _name_ends(axes, compared, rows)
    figure.legend(handles=block_legend(rows), loc="outside lower left", ncols=3)
    note = (
        "Two SAEs of one method that differ in their start alone: concepts are matched one to one by the "
        "correlation of their codes on held-out tokens; those with 20 fires in each model are judged. One comes "
        f"back from {Thresholds.matched:g} on, where each model alone has {Thresholds.matched - 0.2:g}. Mean over "
        "the further starts. Only what is above the left end is training's doing, and a share of few concepts "
        "says little. Methods without further starts are left out."
    )
    return Picture(name, claim, note, figure)


def _claim(compared: Compared, rows: list[ComparedMethod]) -> str:
    """Of the method of which most concepts come back."""
    best = max(rows, key=lambda each: compared.value(each, BACK) * compared.value(each, JUDGED))
    start = f"; before the first step {said}" if (said := _share(compared, best, BEFORE)) else ""
    claim = f"From another start of {best.label} {_share(compared, best)} concepts come back{start}"
    if len(rows) == 1:
        return claim
    more = sum(after > before for before, after in (_ends(compared, each) for each in rows))
    return f"{claim}; training raises that share in {more} of {len(rows)} methods"


def _share(compared: Compared, each: ComparedMethod, run: str = END) -> str:
    """'60 % of 208'; nothing where it was not measured."""
    back, judged = (compared.value(each, measure, run) for measure in (BACK, JUDGED))
    return f"{percent(back)} of {judged:,.0f}" if np.isfinite(back) else ""


def _ends(compared: Compared, each: ComparedMethod) -> tuple[float, float]:
    return compared.value(each, BACK, BEFORE), compared.value(each, BACK, END)


def _slope(axes: Axes, compared: Compared, each: ComparedMethod) -> None:
    colour, (before, after) = colour_of(each), _ends(compared, each)
    axes.plot([0, 1], [before, after], color=colour, linewidth=1.6, alpha=0.7)
    axes.plot(0, before, "x", color=colour, markersize=6)
    axes.plot(1, after, "o", color=colour, markersize=7, clip_on=False)


def _name_ends(axes: Axes, compared: Compared, rows: list[ComparedMethod]) -> None:
    """Names with their numbers at the right edge, joined with the ends of the lines."""
    ends = [_ends(compared, each) for each in rows]
    heights = apart([after for _, after in ends], 0.058, 0.01, 0.99)
    for each, (_, after), height in zip(rows, ends, heights, strict=True):
        line = {"arrowstyle": "-", "color": colour_of(each), "linewidth": 0.6, "alpha": 0.5, "relpos": (0, 0.5)}
        start = f", from {said}" if (said := _share(compared, each, BEFORE)) else ""
        text = f"{each.label}: {_share(compared, each)}{start}"
        axes.annotate(text, xy=(1, after), xytext=(1.06, height), textcoords="axes fraction", va="center",
                      arrowprops=line, fontsize=10.5)  # fmt: skip
