"""What codes are good for: another model's readouts, and a model that joins late (stage `report`)."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from usae.showing.figures.theme import (
    INK,
    MUTED,
    OKABE_ITO,
    RC,
    LineStyle,
    Picture,
    canvas,
    headline,
    model_colours,
    percent,
    sentence,
    style_line,
    style_marker,
)
from usae.showing.names import METHODS

CONTROLS = {"shuffled": ":", "untrained": "-."}  # line styles of models that should learn little
DICTIONARIES = {  # of old models that have learnt nothing, or nothing in common: marker, words
    "start": ("x", "onto a dictionary before its first step"),
    "shuffled": ("+", "onto one of re-paired images"),
}
LINES: dict[LineStyle, str] = {
    "-": "its codes",
    "--": "the best linear map",
    ":": "its codes, learnt from re-paired images",
    "-.": "its codes, with random weights",
}
JOINT = ("D", "one SAE of all models from the first step")
COLOURS = {
    "usae": OKABE_ITO[2],
    "twin": OKABE_ITO[1],
    "start": OKABE_ITO[5],
    "ridge": OKABE_ITO[7],
    "independent": OKABE_ITO[4],
}


@mpl.rc_context(RC)
def onboarding_picture(onboarding: pd.DataFrame, reconstruction: pd.DataFrame, models: Sequence[str]) -> Picture:
    """R2 to and from the model that joins, by the images it learnt from, beside maps, nulls and joint training."""
    trained = onboarding[onboarding["dictionary"] == "trained"] if len(onboarding) else onboarding
    matched = trained[trained["setting"] == "matched"] if len(onboarding) else onboarding
    if matched.empty:
        text = "Run `dvc repro onboarding` with two models or more."
        return sentence("onboarding", "No model has joined late", text)
    new = matched.loc[matched["source"] == matched["target"], "source"].iloc[0]
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    claim = _claim(trained, new) + _other_dictionaries(onboarding)
    headline(figure, claim)
    sides = {f"from {new}": ("source", "target"), f"to {new}": ("target", "source")}
    row = np.ravel(figure.subplots(1, 2, sharex=True, sharey=True))
    for axes, (title, (fixed, other)) in zip(row, sides.items(), strict=True):
        rows = trained[(trained[fixed] == new) & (trained[other] != new)]
        joint = reconstruction[(reconstruction["sae"] == "usae") & (reconstruction["split"] == "val")]
        _curves(axes, rows, other, joint[joint[fixed] == new].set_index(other)["r2_channel"], models)
        _markers(axes, onboarding[(onboarding[fixed] == new) & (onboarding[other] != new)], other, models)
        axes.set(title=title, xscale="log", xlabel=f"training images of {new}")
        _counts(axes.xaxis, matched["images"])
    row[0].set_ylim(0, None)
    row[0].set_ylabel("R² of the target, held out")
    figure.legend(handles=[*row[0].get_legend_handles_labels()[0], *_signs()], loc="outside lower center", ncols=3)
    note = (
        "Onto an SAE trained without the model that joins. What is learnt from re-paired images lies below 0 "
        "where it is not seen. The crosses are true pairs, but the others' SAE has learnt nothing, or nothing in "
        "common: what that gives, the regression gives."
    )
    return Picture("onboarding", claim, note, figure)


@mpl.rc_context(RC)
def stitching_picture(stitching: pd.DataFrame) -> Picture:
    """Share of a readout recovered through another model, per way and pair of models."""
    rows = stitching.query("source != target and recovered.notna()") if len(stitching) else stitching
    if rows.empty:
        text = "Stage `interventions` needs two models, and images with labels that it can teach and test."
        return sentence("stitching", "No readout was asked through another model", text)
    means = rows.groupby("method")["recovered"].mean()
    claim = f"Through another model's universal codes a label readout keeps {percent(means['usae'])} of its skill"
    if "twin" in means:
        claim += f", through its twin's, trained as little as the controls, {percent(means['twin'])}"
    if "start" in means:
        claim += f"; before the first step {percent(means['start'])}"
    if "independent" in means:
        claim += f"; through matched codes of independent SAEs {percent(means['independent'])}"
    figure, axes = canvas(claim)
    skill = rows[rows["method"] == "usae"].set_index(["source", "target"])["recovered"]
    pairs = skill.sort_values(ascending=False, kind="stable").index.to_list()
    methods = [method for method in COLOURS if method in means]
    for m, method in enumerate(methods):
        recovered = rows[rows["method"] == method].set_index(["source", "target"])["recovered"].reindex(pairs)
        heights = np.arange(len(pairs)) + 0.8 * ((m + 0.5) / len(methods) - 0.5)
        label, colour = METHODS[method], COLOURS[method]
        axes.barh(heights, recovered, height=0.72 / len(methods), color=colour, label=label)
    axes.set_yticks(range(len(pairs)), [f"{source} → {target}" for source, target in pairs])
    axes.invert_yaxis()
    axes.axvline(1, color=INK, linewidth=1.2, linestyle="--")
    axes.set(xlabel="skill recovered: 0 = chance, 1 = the target's own activations")
    axes.grid(visible=False, axis="y")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    note = (
        "Readouts are trained on the target's own activations and shown what the source's images become: "
        f"{rows['score'].iloc[0]} over {rows['labels'].iloc[0]} labels, {rows['images'].iloc[0]} held-out images."
    )
    return Picture("stitching", claim, note, figure)


def _counts(axis: Axis, images: "pd.Series[int]") -> None:
    """A tick for each number of images that was tried."""
    axis.set_major_locator(FixedLocator(sorted(set(images))))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())


def _signs() -> list[Line2D]:
    """What line styles and markers mean, for the legend."""
    lines = [style_line(style, text) for style, text in LINES.items()]
    return [*lines, style_marker(*JOINT), *(style_marker(*sign) for sign in DICTIONARIES.values())]


def _claim(rows: pd.DataFrame, new: str) -> str:
    """The mean R2 with the others, from the fewest images and from all."""
    cross = rows[rows["source"] != rows["target"]]
    matched = cross[cross["setting"] == "matched"].groupby("images")["r2"].mean()
    few, many = matched.index[0], matched.index[-1]
    return (
        f"{new} joins a finished SAE: mean R² with the others {matched.loc[few]:.2f} after {few} images, "
        f"{matched.loc[many]:.2f} after {many}"
    )


def _other_dictionaries(onboarding: pd.DataFrame) -> str:
    """What a joining model reaches with SAEs of the others in which nothing was learnt, or nothing in common."""
    rows = onboarding[(onboarding["setting"] == "matched") & (onboarding["source"] != onboarding["target"])]
    last = rows[rows["images"] == rows["images"].max()].groupby("dictionary")["r2"].mean()
    reached = [f"{last[name]:.2f} {words}" for name, (_, words) in DICTIONARIES.items() if name in last]
    return f"; {', '.join(reached)}" if reached else ""


def _markers(axes: Axes, rows: pd.DataFrame, other: str, models: Sequence[str]) -> None:
    """With all images, R² with the other dictionaries, in the colour of each old model."""
    colours, last = model_colours(models), rows[rows["images"] == rows["images"].max()]
    for name, (marker, _) in DICTIONARIES.items():
        for model, r2 in last[last["dictionary"] == name].groupby(other)["r2"].mean().items():
            axes.plot(last["images"].max(), r2, marker, color=colours.get(str(model), MUTED), markersize=8)


def _curves(axes: Axes, rows: pd.DataFrame, other: str, joint: "pd.Series[float]", models: Sequence[str]) -> None:
    """One colour per old model: matched, ceiling, controls, and joint training at the right."""
    colours = model_colours(models)
    for model, model_rows in rows.groupby(other, sort=False):
        lines = {setting: line.sort_values("images") for setting, line in model_rows.groupby("setting")}
        line, colour = lines["matched"], colours.get(str(model), MUTED)
        axes.plot(line["images"], line["r2"], color=colour, marker="o", markersize=4, label=model)
        axes.plot(line["images"], line["r2_ridge"], color=colour, linestyle="--", linewidth=1.2)
        for setting, style in CONTROLS.items():
            if setting in lines:
                axes.plot(
                    lines[setting]["images"], lines[setting]["r2"], color=colour, linestyle=style, linewidth=1.6
                )
        if model in joint.index:
            axes.plot(line["images"].max() * 1.25, joint[model], "D", color=colour, markersize=6, clip_on=False)
