"""Which concepts may be called universal, and what the same rule calls so where nothing is (stage `report`)."""

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes

from usae.evidence.controls.names import RUN, SEED, SHUFFLED, UNTRAINED
from usae.showing.figures.theme import MUTED, OKABE_ITO, RC, Picture, canvas, percent, sentence

BROKEN = {  # controls in which a universal concept is a false one
    SHUFFLED: ("re-paired images", OKABE_ITO[1]),
    UNTRAINED: ("untrained networks", OKABE_ITO[4]),
}


@mpl.rc_context(RC)
def funnel_picture(funnel: pd.DataFrame) -> Picture:
    """Share of the alive concepts that is left after each step, of the run and of its controls."""
    if funnel.empty:
        text = "Run `dvc repro measure` to ask of each concept whether it may be called universal."
        return sentence("funnel", "No concept was put to the test", text)
    runs = {str(run): rows for run, rows in funnel.groupby("run", sort=False)}
    own = runs.pop(RUN)
    figure, axes = canvas(_claim(own, runs), width=8.0)
    for run, rows in runs.items():
        label, colour = BROKEN.get(run, ("other seeds" if run.startswith(SEED) else run, MUTED))
        _line(axes, rows, colour, label, 1.4)
    _line(axes, own, OKABE_ITO[0], "the run", 2.6)
    for step, row in enumerate(own.itertuples()):
        axes.annotate(
            f"{row.concepts:,}", (step, row.share), (4, 5), textcoords="offset points", color=OKABE_ITO[0]
        )
    axes.set(ylabel="share of alive concepts", ylim=(0, 1.08), xlabel="passes this step and all before it")
    lines = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))  # one entry for all other seeds
    axes.legend(lines.values(), lines.keys())
    note = (
        "The last steps are asked of the run only: the controls' lines end where they could still be called "
        "universal. Beyond untrained: a lift above that of 95 % of the concepts that co-fire significantly in an "
        "untrained control. Stable: found again in most seeds."
    )
    return Picture("funnel", _claim(own, runs), note, figure)


def _claim(own: pd.DataFrame, runs: dict[str, pd.DataFrame]) -> str:
    last, alive = own.iloc[-1], int(own["concepts"].iloc[0])
    claim = f"{last['concepts']:,} of {alive:,} alive concepts ({percent(last['share'])}) pass every step"
    false = {name: rows["share"].iloc[-1] for name, rows in runs.items() if name in BROKEN}
    if not false:
        return claim
    worst = max(false, key=lambda name: false[name])
    return f"{claim}; of a control's at most {percent(false[worst])} ({BROKEN[worst][0]})"


def _line(axes: Axes, rows: pd.DataFrame, colour: str, label: str, width: float) -> None:
    axes.plot(rows["step"], rows["share"], color=colour, label=label, linewidth=width, marker="o", markersize=5)
