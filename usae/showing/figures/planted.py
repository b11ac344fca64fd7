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
    "start": "before the first step",
    "matched": "trained on the same images",
    "shuffled": "trained on re-paired images",
}
KINDS = {
    "shared": "all models",
    "most": "all but one",
    "pair": "two models",
    "private": "one model",
    "twin": "one model, hard",
}


@mpl.rc_context(RC)
def planted_picture(planted: pd.DataFrame, concepts: pd.DataFrame) -> Picture:
    """Firing entropy and smallest co-fire proportion of every planted concept found, in each setting."""
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
    row[0].set_ylabel("co-fire proportion, least model")
    figure.legend(*row[0].get_legend_handles_labels(), title="planted in", loc="outside lower center", ncols=5)
    note = (
        "One point per planted concept that a code stands for, by direction and activity, of all seeds. Right of "
        "the dashed line entropy calls it universal. Hard ones come together with a like concept of each other "
        "model, but are none of theirs."
    )
    return Picture("planted", claim, note, figure)


def _claim(planted: pd.DataFrame) -> str:
    """How co-firing and entropy rank private concepts, and how many of them entropy calls universal."""
    ideal = planted[planted["kind"].isin(["private", "twin"]) & (planted["setting"] == "ideal")]
    proportion, entropy = (_mean(ideal, "auroc", by) for by in ("cofire_proportion_min", "firing_entropy"))
    false_share = _mean(ideal, "called universal", "entropy")
    return (
        f"Where private concepts of several models share an index, entropy calls {percent(false_share)} of them "
        f"universal (AUROC {entropy:.2f}); co-firing tells them from shared ones (AUROC {proportion:.2f})"
    )


def _mean(planted: pd.DataFrame, quantity: str, by: str) -> float:
    """Mean value over kinds, by planted concepts."""
    rows = planted[(planted["quantity"] == quantity) & (planted["by"] == by)].dropna(subset=["value"])
    return float(np.average(rows["value"], weights=rows["planted"])) if len(rows) else float("nan")


def _panel(axes: Axes, concepts: pd.DataFrame, title: str) -> None:
    tracked = concepts[concepts["tracked"]]
    for (kind, label), colour in zip(KINDS.items(), _colours(), strict=True):
        rows = tracked[tracked["kind"] == kind]
        if (concepts["kind"] == kind).any():
            axes.scatter(
                rows["firing_entropy"],
                rows["cofire_proportion_min"],
                color=colour,
                label=label,
                s=24,
                alpha=0.7,
                linewidths=0,
                clip_on=False,
            )
    axes.axvline(HIGH_ENTROPY, color=MUTED, linestyle="--", linewidth=1.2)
    axes.set(title=title, xlabel="firing entropy", xlim=(0, 1), ylim=(0, 1))


def _colours() -> Sequence[str]:
    return (OKABE_ITO[2], OKABE_ITO[3], OKABE_ITO[5], OKABE_ITO[4], OKABE_ITO[1])
