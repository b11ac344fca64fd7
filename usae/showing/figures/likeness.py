"""Nulls beside what they are nulls of: co-fires under each re-pairing, likeness of the models (stage `report`)."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from usae.showing.figures.theme import INK, MUTED, OKABE_ITO, RC, Picture, canvas, percent, sentence, style_marker
from usae.showing.names import MEASURES

NULLS = {  # the first three re-pair one model at a time, the one that costs least counts
    "images": "one model re-paired",
    "class": "within classes",
    "tokens": "tokens shuffled too",
    "joint": "all re-paired at once",
}
MOST_GROUPS = 16
SPACES = {"mutual_knn": "image means", "cka_unbiased": "image means", "buddies": "all tokens"}  # of each measure
COLOURS = {"codes": OKABE_ITO[0], "activations": OKABE_ITO[1]}
SIDES = {"codes": -1, "activations": 1}
APART = 0.17  # of codes and activations, from the middle of their row


@mpl.rc_context(RC)
def null_kinds_picture(nulls: pd.DataFrame, models: Sequence[str]) -> Picture:
    """Share of concepts that co-fire beyond each null, for every group of models."""
    if nulls.empty:
        return sentence("null_kinds", "No concept fires in two models", "Table nulls has no rows.")
    shares = nulls.groupby(["null", "models"])["significant"].mean().astype(float).unstack("null")
    shares = shares.sort_index(key=lambda groups: groups != "+".join(models), kind="stable")  # all models first
    kinds = [null for null in NULLS if null in shares]
    claim, groups = _beyond_chance(shares, kinds, "+".join(models)), len(shares)
    shares = _few(shares, "+".join(models))
    figure, axes = canvas(claim, height=max(4.8, 2.4 + 0.3 * len(shares)))
    height = 0.8 / len(kinds)
    for k, null in enumerate(kinds):
        heights = np.arange(len(shares)) + height * (k - (len(kinds) - 1) / 2)
        axes.barh(heights, shares[null], height=0.9 * height, color=OKABE_ITO[k], label=NULLS[null])
    axes.set_yticks(range(len(shares)), [str(group).replace("+", " + ") for group in shares.index])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="share significant, false discovery rate 5 %", xlim=(0, 1))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    note = (
        "One model at a time is re-paired, and every one has to matter: only then do all models share the "
        "concept. All re-paired at once says `not independent` and no more: two models that agree are enough. "
        "Re-paired images keep rates, clusters within images and positions; within classes also what follows from "
        "the class; shuffled tokens keep rates alone. Concepts that fire in all models of a group count."
    ) + (
        f" Of {groups} groups: all models, and those with the least and the most." if len(shares) < groups else ""
    )
    return Picture("null_kinds", claim, note, figure)


def _few(shares: pd.DataFrame, all_models: str) -> pd.DataFrame:
    """Of more groups than MOST_GROUPS those with the smallest and the largest shares, and that of all models."""
    if len(shares) <= MOST_GROUPS:
        return shares
    order = shares.drop(index=all_models, errors="ignore").sort_values("images", kind="stable").index
    kept = {*order[: MOST_GROUPS // 2], *order[-MOST_GROUPS // 2 :], all_models}
    return shares[shares.index.isin(kept)].rename(index={all_models: "all models"})


def _beyond_chance(shares: pd.DataFrame, kinds: Sequence[str], all_models: str) -> str:
    """What the figure says of the group of all models; `shares` by group and null."""
    if all_models not in shares.index:
        return "No concept fires in all models; what co-fires in some, beyond each null"
    of_everyone = zip(kinds, shares.loc[[all_models], list(kinds)].to_numpy()[0], strict=True)
    ranked = sorted((share, NULLS[null]) for null, share in of_everyone)
    (least, hardest), (most, easiest) = ranked[0], ranked[-1]
    claim = f"Of the concepts that fire in all models {percent(least)} co-fire beyond the hardest null, {hardest}"
    return claim if easiest == hardest else f"{claim}; {percent(most)} beyond the easiest, {easiest}"


@mpl.rc_context(RC)
def alignment_picture(alignment: pd.DataFrame) -> Picture:
    """How alike models are in their codes and in their activations, by three measures, beside re-paired images."""
    rows = _drawn(alignment) if len(alignment) else alignment
    if rows.empty:
        return sentence("alignment", "One model alone is like no other", "Name two or more under `models`.")
    means = rows.groupby(["measure", "of"])[["value", "null_mean"]].mean()
    measures = [measure for measure in SPACES if measure in means.index]
    claim = _more_alike(means)
    figure, axes = canvas(claim, height=1.9 + 0.8 * len(measures))
    for row, measure in enumerate(measures):
        for of, side in SIDES.items():
            pairs = rows[(rows["measure"] == measure) & (rows["of"] == of)]
            _likeness(axes, row + APART * side, pairs, COLOURS[of])
    axes.set_yticks(range(len(measures)), [MEASURES[measure] for measure in measures])
    axes.set(xlabel="likeness, 1 = identical", xlim=(-0.02, 1), ylim=(len(measures) - 0.5, -0.5))
    axes.grid(visible=False, axis="y")
    signs = [Line2D([], [], color=colour, marker="o", markersize=9, label=of) for of, colour in COLOURS.items()]
    others = [Line2D([], [], color=MUTED, linestyle="", marker="o", markersize=4, label="one pair of models")]
    figure.legend(handles=[*signs, style_marker("|", "re-paired images"), *others], loc="outside lower center",
                  ncols=2)  # fmt: skip
    note = (
        "Means over pairs of models. Width and chance give likeness too: the distance to the bar counts. "
        "Neighbours and CKA compare means over an image; nearest units are channels or concepts, over all tokens. "
        "Table `alignment` has more measures, and the same of single tokens."
    )
    return Picture("alignment", claim, note, figure)


def _drawn(alignment: pd.DataFrame) -> pd.DataFrame:
    """The rows of SPACES in the space that each names; `of`: codes or activations."""
    parts = alignment["space"].str.split(", ", n=1, expand=True)  # (of, over what)
    rows = alignment.assign(of=parts[0], over=parts[1])
    over = rows["measure"].map(SPACES)
    return rows[(rows["over"] == over) & rows["of"].isin(list(COLOURS))]


def _more_alike(means: pd.DataFrame) -> str:
    """By how many measures codes are more alike than activations, less what re-paired images give."""
    beyond = (means["value"] - means["null_mean"]).unstack("of").reindex(columns=list(COLOURS)).dropna()
    more = int((beyond["codes"] > beyond["activations"]).sum())
    return (
        f"Beyond re-paired images, models are more alike in their codes than in their activations by {more} of "
        f"{len(beyond)} measures"
    )


def _likeness(axes: Axes, height: float, pairs: pd.DataFrame, colour: str) -> None:
    """The mean over pairs of models, with a line from that of re-paired images, and every pair faintly."""
    value, null = pairs["value"].mean(), pairs["null_mean"].mean()
    axes.plot([null, value], [height] * 2, color=colour, linewidth=1.6)
    axes.plot(
        pairs["value"], [height] * len(pairs), "o", color=colour, markersize=4, alpha=0.45, markeredgewidth=0
    )
    axes.plot(null, height, "|", color=INK, markersize=11, markeredgewidth=1.6)
    axes.plot(value, height, "o", color=colour, markersize=9)
