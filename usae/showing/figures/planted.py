"""Which score tells planted shared concepts from private ones (stage `report`, from stage `planted`)."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from usae.evidence.metrics.firing.counts import HIGH_ENTROPY
from usae.showing.figures.theme import MUTED, OKABE_ITO, RC, Picture, headline, percent, sentence

PANELS = {
    "ideal": "perfect codes, small dictionary",
    "matched": "trained on the same images",
    "shuffled": "trained on re-paired images",
}
KINDS = {"shared": "all models", "pair": "two models", "private": "one model", "twin": "one model, hard"}
LOWEST = 0.1  # lifts below this, and 0, are drawn here


@mpl.rc_context(RC)
def planted_picture(planted: pd.DataFrame, concepts: pd.DataFrame) -> Picture:
    """Firing entropy and lift of every planted concept, in each setting."""
    if concepts.empty:
        text = "Run `dvc repro planted` to train on generated activations whose concepts are known."
        return sentence("planted", "No concepts were planted", text)
    claim = _claim(planted)
    panels = [setting for setting in PANELS if (concepts["setting"] == setting).any()]
    figure = Figure(figsize=(4.2 * len(panels), 4.6), layout="constrained")
    headline(figure, claim)
    row = np.ravel(figure.subplots(1, len(panels), sharex=True, sharey=True))
    for axes, setting in zip(row, panels, strict=True):
        _panel(axes, concepts[concepts["setting"] == setting], PANELS[setting])
    row[0].set_ylabel("lift: co-fires over chance")
    figure.legend(*row[0].get_legend_handles_labels(), title="planted in", loc="outside lower center", ncols=4)
    note = (
        "One point per planted concept, at the code that follows it best. Right of the dashed line entropy calls "
        f"it universal; a lift of {LOWEST:g} stands for that and less. Hard ones come together with a like "
        "concept of each other model, but are none of theirs."
    )
    return Picture("planted", claim, note, figure)


def _claim(planted: pd.DataFrame) -> str:
    """How lift and entropy rank private concepts, and how many of them entropy calls universal."""
    ideal = planted[planted["kind"].isin(["private", "twin"]) & (planted["setting"] == "ideal")]
    lift, entropy = (_mean(ideal, "auroc", by) for by in ("lift", "firing_entropy"))
    false_share = _mean(ideal, "called universal", "entropy")
    return (
        f"Where private concepts of several models share an index, entropy calls {percent(false_share)} of them "
        f"universal (AUROC {entropy:.2f}); lift tells them from shared ones (AUROC {lift:.2f})"
    )


def _mean(planted: pd.DataFrame, quantity: str, by: str) -> float:
    """Mean value over kinds, by planted concepts."""
    rows = planted[(planted["quantity"] == quantity) & (planted["by"] == by)].dropna(subset=["value"])
    return float(np.average(rows["value"], weights=rows["planted"])) if len(rows) else float("nan")


def _panel(axes: Axes, concepts: pd.DataFrame, title: str) -> None:
    for (kind, label), colour in zip(KINDS.items(), _colours(), strict=True):
        rows = concepts[concepts["kind"] == kind]
        lifts = rows["lift"].fillna(0).clip(lower=LOWEST)
        axes.scatter(
            rows["firing_entropy"], lifts, color=colour, label=label, s=32, alpha=0.85, linewidths=0, clip_on=False
        )
    axes.axhline(1, color=MUTED, linewidth=1.0)
    axes.axvline(HIGH_ENTROPY, color=MUTED, linestyle="--", linewidth=1.2)
    axes.set(title=title, xlabel="firing entropy", xlim=(0, 1), yscale="log")


def _colours() -> Sequence[str]:
    return (OKABE_ITO[2], OKABE_ITO[5], OKABE_ITO[4], OKABE_ITO[1])
