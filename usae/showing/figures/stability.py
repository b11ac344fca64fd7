"""Are the concepts found again by an SAE that saw other images? (stage `report`)"""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from usae.evidence.controls.names import HALF, RUN, beside_controls
from usae.evidence.metrics.funnel import Thresholds, comes_back
from usae.showing.figures.theme import MUTED, OKABE_ITO, RC, Picture, canvas, percent, sentence

CORRELATIONS = np.linspace(0, 1, 101)
HALVES, EACH_OTHER, SEEDS = "the run in a half of the images", "one half in the other", "the run in another seed"
KINDS = {HALVES: OKABE_ITO[0], EACH_OTHER: OKABE_ITO[1], SEEDS: OKABE_ITO[2]}
MATCHED = Thresholds.matched


@mpl.rc_context(RC)
def stability_picture(stability: pd.DataFrame) -> Picture:
    """Share of concepts whose codes correlate more than t with their partner's, after training and before."""
    judged = stability[stability["correlation"].notna()] if len(stability) else stability
    judged = _compared(judged)
    if judged.empty:
        text = "Set `controls.seeds` or `controls.halves` in params.yaml and run `dvc repro contrast`."
        return sentence("stability", "No other SAE was asked for the same concepts", text)
    claim = _claim(judged)
    figure, axes = canvas(claim, width=8.0)
    other = judged.loc[(judged["run"] == RUN) & ~judged["start"], "correlation_other"].to_numpy(np.float64)
    axes.plot(CORRELATIONS, _share_above(other), color=MUTED, linewidth=1.0, label="another concept's partner")
    for (run, against, start), rows in judged.groupby(["run", "against", "start"], sort=False):
        _line(axes, rows, _kind(str(run), str(against)), bool(start))
    axes.axvline(MATCHED, ymax=0.55, color=MUTED, linestyle=":", linewidth=1.2)
    axes.set(xlabel="correlation of the two codes, mean over models", ylabel="share of concepts above it")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    _legend(axes)
    note = (
        "Concepts are matched one to one by the correlation of their codes on held-out tokens; those with 20 "
        f"fires in each model count. Dotted: from {MATCHED:g} on a concept comes back, where each model alone has "
        f"{MATCHED - 0.2:g}. The halves have no image in common; other seeds saw the run's images. Dashed: both "
        "SAEs before their first step."
    )
    if beside_controls(set(stability["run"])) != RUN:
        note += " For the run stands its twin, which was trained as little as the others."
    return Picture("stability", claim, note, figure)


def _compared(judged: pd.DataFrame) -> pd.DataFrame:
    """Without the run where a twin stands for it, which is then called the run."""
    own = beside_controls(set(judged["run"])) if len(judged) else RUN
    return judged if own == RUN else judged[judged["run"] != RUN].replace({"run": {own: RUN}})


def _claim(judged: pd.DataFrame) -> str:
    """How much comes back in the halves, or, without them, in other seeds, and what does before the first step."""
    own = judged[judged["run"] == RUN]
    halves = own[own["against"].str.startswith(HALF)]
    rows, where = (halves, "an SAE of one half of the images") if len(halves) else (own, "an SAE of another seed")
    after, before = (_share_back(rows[rows["start"] == start]) for start in (False, True))
    claim = f"Of the run's concepts {percent(after)} come back in {where}"
    return claim if np.isnan(before) else f"{claim}; before the first step {percent(before)} do"


def _share_back(rows: pd.DataFrame) -> float:
    """Mean over the SAEs of the share of concepts that come back; NaN of none."""
    shares = [
        comes_back(match["correlation"].to_numpy(), match["correlation_least"].to_numpy(), MATCHED).mean()
        for _, match in rows.groupby("against")
    ]
    return float(np.mean(shares)) if shares else float("nan")


def _kind(run: str, against: str) -> str:
    if run != RUN:
        return EACH_OTHER
    return HALVES if against.startswith(HALF) else SEEDS


def _line(axes: Axes, rows: pd.DataFrame, kind: str, start: bool) -> None:
    share = _share_above(rows["correlation"].to_numpy(np.float64))
    label = "_" if start else kind
    axes.plot(CORRELATIONS, share, "--" if start else "-", color=KINDS[kind], label=label,
              linewidth=1.4 if start else 2.0)  # fmt: skip


def _legend(axes: Axes) -> None:
    axes.plot([], [], "--", color=MUTED, linewidth=1.4, label="before the first step")
    handles, labels = axes.get_legend_handles_labels()
    lines = dict(zip(labels, handles, strict=True))  # one entry for all of a kind
    axes.legend(list(lines.values()), list(lines), loc="upper right")


def _share_above(values: np.ndarray) -> np.ndarray:
    """(correlations,) share of the values above each."""
    ranked = np.sort(values[np.isfinite(values)])
    return np.asarray(1 - np.searchsorted(ranked, CORRELATIONS, side="right") / max(len(ranked), 1))
