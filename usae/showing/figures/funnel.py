"""Which concepts may be called universal, and what the same rule calls so where nothing is (stage `report`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from usae.evidence.controls.names import ONE_SHUFFLED, ONE_UNTRAINED, RUN, SHUFFLED, TWIN, UNTRAINED, is_null
from usae.evidence.metrics.funnel import BEYOND_CONTROLS, SHARED_STEPS, all_levels
from usae.showing.figures.theme import MUTED, OKABE_ITO, PAPER, RC, Picture, canvas, sentence

STEPS = (
    "Alive: fires on a held-out token. In all models: in each of them. Significant: 20 fires in each, and more "
    "co-fires than where any one model is re-paired, at a false discovery rate of 5 %. Agreement: all models fire "
    "on at least `measure.agreement` of the fires of each. Beyond controls: beyond chance by more than 95 % "
    "of the significant concepts of controls with untrained networks or re-paired images. Stable: comes back in "
    "both SAEs that saw one half of the training images each, asked of the run and its start alone: hollow."
)


@dataclass(frozen=True)
class FunnelCounts:
    """What table `funnel` says of one SAE.

    shared: concepts that pass all steps but the last; agreement: the median of theirs. again: those that come back
    in both halves of the images; None where no SAE saw halves. controlled: whether a control was trained; else
    `shared` ends with the agreement of the models.
    """

    alive: int
    shared: int
    agreement: float
    again: int | None
    controlled: bool

    @property
    def verb(self) -> str:
        """What the models do with `shared` concepts."""
        return "share" if self.controlled else "agree, no control asked, on"


def run_counts(funnel: pd.DataFrame, start: bool = False) -> FunnelCounts | None:
    """Of the run, or of the same before its first step; None where the table has no such rows."""
    if funnel.empty or (rows := _rows(funnel, RUN, start)).empty:
        return None
    shared = rows[rows["step"].isin(SHARED_STEPS)].iloc[-1]
    last = rows.iloc[-1]
    again = None if last["step"] in SHARED_STEPS else int(last["concepts"])
    controlled = bool((rows["step"] == BEYOND_CONTROLS).any())
    alive, count = int(rows["concepts"].iloc[0]), int(shared["concepts"])
    return FunnelCounts(alive, count, float(shared["agreement_median"]), again, controlled)


def most_by_accident(funnel: pd.DataFrame) -> "pd.Series[int]":
    """By step that any was asked, the most concepts that pass it in a control with nothing to share."""
    if funnel.empty:
        return pd.Series(dtype=int)
    trained = all_levels(funnel)[~all_levels(funnel)["start"].astype(bool)]
    nulls = trained[trained["run"].map(lambda run: is_null(str(run)))]
    return nulls.groupby("step", sort=False)["concepts"].max()


@mpl.rc_context(RC)
def funnel_picture(funnel: pd.DataFrame) -> Picture:
    """How many concepts are left after each step, of the run, of its start and of its controls."""
    run = run_counts(funnel)
    if run is None:
        text = "Run `dvc repro measure` to ask of each concept whether it may be called universal."
        return sentence("funnel", "No concept was put to the test", text)
    accidents = most_by_accident(funnel)
    claim = _claim(run, run_counts(funnel, start=True), accidents)
    figure, axes = canvas(claim, width=8.4, height=5.0)
    for name in dict.fromkeys(funnel["run"]):
        if name != RUN:
            _line(axes, _rows(funnel, name), *_named(str(name)), 1.3)
    start, own = _rows(funnel, RUN, start=True), _rows(funnel, RUN)
    _line(axes, start, OKABE_ITO[0], "before the first step", 1.8, "--")
    _line(axes, own, OKABE_ITO[0], "the run", 2.6)
    _hollow(axes, own, accidents)
    counts, before = own["concepts"].tolist(), start["concepts"].tolist()
    above = [own_count >= other for own_count, other in zip_longest(counts, before, fillvalue=0)]
    _numbers(axes, counts, above)
    _numbers(axes, before, [not each for each in above])
    axes.set_yscale("symlog", linthresh=1)
    axes.set(ylabel="concepts", ylim=(-0.15, 2.2 * run.alive), xlabel="passes this step and all before it")
    axes.set_yticks(ticks := [0, *(10**n for n in range(len(str(run.alive))))], [f"{tick:,}" for tick in ticks])
    handles, labels = axes.get_legend_handles_labels()
    lines = dict(zip(labels[::-1], handles[::-1], strict=True))  # one entry for all of a kind, the run first
    axes.legend(list(lines.values()), list(lines), loc="upper left", bbox_to_anchor=(1, 1))
    note = f"{STEPS} Dashed: the same SAE before its first step. The scale is logarithmic from 1 on."
    return Picture("funnel", claim, note, figure)


def _claim(run: FunnelCounts, start: FunnelCounts | None, accidents: "pd.Series[int]") -> str:
    """Like with like: the last step that the controls were asked, too."""
    claim = f"All models {run.verb} {run.shared:,} of {run.alive:,} alive concepts"
    if start is not None:
        claim += f"; before the first step {start.shared:,}"
    if len(accidents):
        claim += f"; where there is nothing to share at most {accidents.iloc[-1]:,}"
    return claim


def _hollow(axes: Axes, own: pd.DataFrame, accidents: "pd.Series[int]") -> None:
    """The steps that no control was asked."""
    alone = ~own["step"].isin(accidents.index)
    if not alone.any():
        return
    steps = own.loc[alone, "step"].str.replace(" ", "\n", n=1)
    label = "controls not asked"
    axes.plot(steps, own.loc[alone, "concepts"], "o", color=OKABE_ITO[0], markerfacecolor=PAPER, markersize=7,
              zorder=3, label=label)  # fmt: skip


def _rows(funnel: pd.DataFrame, run: str, start: bool = False) -> pd.DataFrame:
    whole = all_levels(funnel)
    return whole[(whole["run"] == run) & (whole["start"] == start)]


def _named(run: str) -> tuple[str, str]:
    """Colour and name of a control's kind."""
    if run == SHUFFLED or run.startswith(ONE_SHUFFLED):
        return OKABE_ITO[1], "re-paired images,\nof all or one model"
    if run == UNTRAINED or run.startswith(ONE_UNTRAINED):
        return OKABE_ITO[4], "untrained networks,\nall or one"
    if run == TWIN:
        return OKABE_ITO[2], "the run's twin, trained\nas little as these"
    return MUTED, "other seeds,\nhalves of the images"


def _line(axes: Axes, rows: pd.DataFrame, colour: str, label: str, width: float, style: str = "-") -> None:
    steps = rows["step"].str.replace(" ", "\n", n=1)
    axes.plot(steps, rows["concepts"], style, color=colour, label=label, linewidth=width, marker="o",
              markersize=2 * width)  # fmt: skip


def _numbers(axes: Axes, counts: Sequence[int], above: Sequence[bool]) -> None:
    """Beside each point: above its line, or below it where the other line is the higher one."""
    for step, concepts in enumerate(counts):
        offset, side = ((5, 5), "left") if above[step] else ((-5, -14), "right")
        where = (step, concepts), offset
        axes.annotate(f"{concepts:,}", *where, textcoords="offset points", ha=side, color=OKABE_ITO[0],
                      path_effects=[withStroke(linewidth=3, foreground=PAPER)])  # fmt: skip
