"""Nulls beside what they are nulls of: co-fires under each re-pairing, likeness of the models (stage `report`)."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd

from usae.showing.figures.theme import INK, MUTED, OKABE_ITO, RC, Picture, canvas, percent, sentence

NULLS = {  # the first three re-pair one model at a time, the one that costs least counts
    "images": "one model re-paired",
    "class": "within classes",
    "tokens": "tokens shuffled too",
    "joint": "all re-paired at once",
}
MOST_GROUPS = 16
MEASURES = {
    "mutual_knn": "neighbours in common",
    "cka_unbiased": "CKA, unbiased",
    "buddies": "mutual nearest units",
    "rosetta": "mutual nearest in all models",
}


@mpl.rc_context(RC)
def null_kinds_picture(nulls: pd.DataFrame, models: Sequence[str]) -> Picture:
    """Share of concepts that co-fire beyond each null, for every group of models."""
    if nulls.empty:
        return sentence("null_kinds", "No concept fires in two models", "Table nulls has no rows.")
    shares = nulls.groupby(["null", "models"])["significant"].mean().astype(float).unstack("null")
    kinds = [null for null in NULLS if null in shares]
    claim, groups = _beyond_chance(shares, kinds, "+".join(models)), len(shares)
    shares = _few(shares, "+".join(models))
    figure, axes = canvas(claim, height=max(4.4, 1.6 + 0.3 * len(shares)))
    height = 0.8 / len(kinds)
    for k, null in enumerate(kinds):
        heights = np.arange(len(shares)) + height * (k - (len(kinds) - 1) / 2)
        axes.barh(heights, shares[null], height=0.9 * height, color=OKABE_ITO[k], label=NULLS[null])
    axes.set_yticks(range(len(shares)), [str(group).replace("+", " + ") for group in shares.index])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="share of concepts significant at a false discovery rate of 5 %", xlim=(0, 1))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
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
    """Likeness of activations and of codes, beside re-paired images, means over pairs of models."""
    rows = alignment[alignment["measure"].isin(MEASURES)] if len(alignment) else alignment
    if rows.empty:
        return sentence("alignment", "One model alone is like no other", "Name two or more under `models`.")
    means = rows.groupby(["measure", "space"])[["value", "null_mean"]].mean()
    means = means.loc[[measure for measure in MEASURES if measure in means.index]]
    named = [(measure, "codes, image means") for measure in ("mutual_knn", "cka_unbiased")]
    values, nulls = means["value"].to_dict(), means["null_mean"].to_dict()
    likeness = [f"{MEASURES[key[0]]} {values[key]:.2f} ({nulls[key]:z.2f})" for key in named if key in values]
    claim = f"Codes of two models, image by image, beside re-paired images: {', '.join(likeness)}"
    figure, axes = canvas(claim)
    heights, keys = range(len(means)), means.index.to_list()
    names = [f"{MEASURES[measure]}: {space}" for measure, space in keys]
    axes.hlines(heights, means["null_mean"], means["value"], color=MUTED, linewidth=1.2)
    axes.plot(means["value"], heights, "o", color=OKABE_ITO[0], markersize=7, label="true pairs")
    axes.plot(means["null_mean"], heights, "|", color=INK, markersize=11, label="re-paired images, mean")
    axes.set_yticks(heights, names)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="likeness, 1 = identical", xlim=(-0.02, 1))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    note = "Means over pairs of models. Width and chance give likeness too: the distance to the bar counts."
    return Picture("alignment", claim, note, figure)
