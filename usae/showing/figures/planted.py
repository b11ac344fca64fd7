"""Which rule calls planted concepts universal that are none (stage `report`, from stage `planted`)."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from usae.showing.figures.theme import INK, OKABE_ITO, RC, Picture, headline, percent, sentence

PANELS = {
    "ideal": "perfect codes, small dictionary",
    "start": "before the first step",
    "matched": "trained on the same images",
    "shuffled": "trained on re-paired images",
}
KINDS = {
    "shared": "all models",
    "most": "all models but one",
    "pair": "two models",
    "private": "one model",
    "twin": "one model, hard",
}
RULES = {"entropy": ("firing entropy", OKABE_ITO[1]), "funnel": ("the funnel", OKABE_ITO[0])}


@mpl.rc_context(RC)
def planted_picture(planted: pd.DataFrame) -> Picture:
    """Share of the planted concepts that each rule calls universal, by what they are, in each setting."""
    called = (
        planted[planted["quantity"] == "called universal"].dropna(subset=["value"]) if len(planted) else planted
    )
    if called.empty:
        text = "Run `dvc repro planted` to train on generated activations whose concepts are known."
        return sentence("planted", "No concepts were planted", text)
    claim = _claim(called)
    kinds = [kind for kind in KINDS if (called["kind"] == kind).any()]
    panels = [setting for setting in PANELS if (called["setting"] == setting).any()]
    figure = Figure(figsize=(3.4 * len(panels), 1.8 + 0.55 * len(kinds)), layout="constrained")
    headline(figure, claim)
    row = np.ravel(figure.subplots(1, len(panels), sharex=True, sharey=True))
    for axes, setting in zip(row, panels, strict=True):
        _panel(axes, called[called["setting"] == setting], kinds, PANELS[setting])
    row[0].set_yticks(range(len(kinds)), [f"planted in {KINDS[kind]}" for kind in kinds])
    row[0].invert_yaxis()
    figure.legend(
        *row[0].get_legend_handles_labels(), title="called universal by", loc="outside lower center", ncols=2
    )
    note = (
        "Of the planted concepts that a code stands for, of all seeds, with 95 % intervals. Only those planted in "
        "all models are universal: their bars should be full and all others empty. Hard ones come together with a "
        "like concept of each other model, but are none of theirs. No bar: none of this kind was found."
    )
    return Picture("planted", claim, note, figure)


def _claim(called: pd.DataFrame) -> str:
    """Of concepts that are not shared, the shares called universal, for perfect and for trained codes."""
    wrong = called[called["kind"] == "others"].set_index(["setting", "by"])["value"]
    settings = {"ideal": "perfect codes", "matched": "trained ones"}
    claims = [
        f"of {words} {percent(wrong[setting, 'entropy'])} by firing entropy, "
        f"{percent(wrong[setting, 'funnel'])} by the funnel"
        for setting, words in settings.items()
        if (setting, "entropy") in wrong.index and (setting, "funnel") in wrong.index
    ]
    return f"Planted concepts that are not shared, called universal: {'; '.join(claims)}"


def _panel(axes: Axes, called: pd.DataFrame, kinds: list[str], title: str) -> None:
    height = 0.8 / len(RULES)
    for r, (rule, (label, colour)) in enumerate(RULES.items()):
        rows = called[called["by"] == rule].set_index("kind").reindex(kinds)
        heights = np.arange(len(kinds)) + height * (r - (len(RULES) - 1) / 2)
        reach = np.clip([rows["value"] - rows["low"], rows["high"] - rows["value"]], 0, None)
        axes.barh(heights, rows["value"], height=0.9 * height, color=colour, label=label)
        axes.errorbar(rows["value"], heights, xerr=reach, fmt="none", ecolor=INK, elinewidth=1.0, capsize=2)
    axes.grid(visible=False, axis="y")
    axes.set(title=title, xlim=(0, 1.02))
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
