"""Maximised pictures side by side: for each concept the one that each model scores highest (paper Fig. 8)."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from usae.showing.figures.theme import MUTED, RC, Picture, headline, model_colours, percent, sentence
from usae.showing.maximisation.pictures import HIGH_PERCENTILE

NAME = "maximised"
TILE_INCHES, LABEL_INCHES = 1.5, 1.7

Cell = tuple[int, str]  # concept, model


@mpl.rc_context(RC)
def maximised_grid(
    concepts: Sequence[int],
    models: Sequence[str],
    pictures: Mapping[Cell, np.ndarray],
    percentiles: Mapping[Cell, float],
    titles: Sequence[str],
) -> Picture:
    """A row per concept, a column per model; below each picture its place among real images.

    Shapes: each picture [size, size, 4] uint8.
    """
    if not concepts:
        return sentence(NAME, "Nothing was maximised", "Run `dvc repro maximise` to make pictures of concepts.")
    above = np.mean([percentiles[cell] > HIGH_PERCENTILE for cell in pictures])
    claim = f"{percent(float(above))} of the pictures beat 99 % of real images in the model they are made for"
    width, height = LABEL_INCHES + TILE_INCHES * len(models), 1.0 + (TILE_INCHES + 0.25) * len(concepts)
    figure = Figure(figsize=(width, height), layout="constrained")
    headline(figure, claim)
    axes = figure.subplots(len(concepts), len(models), squeeze=False)
    for row, concept in enumerate(concepts):
        for column, model in enumerate(models):
            _cell(axes[row, column], pictures[concept, model], percentiles[concept, model])
        axes[row, 0].set_ylabel(
            titles[row].replace(", ", "\n"), rotation=0, ha="right", va="center", fontsize=9, labelpad=8
        )
    for column_axes, (model, colour) in zip(axes[0], model_colours(models).items(), strict=True):
        column_axes.set_title(model, color=colour, fontweight="bold", loc="center")
    note = (
        "Made by phase-only optimisation from one start that all models share (MACO); what did not move the "
        "score is transparent. Below each picture: share of real images that score lower in that model."
    )
    return Picture(NAME, claim, note, figure)


def _cell(axes: Axes, picture: np.ndarray, percentile: float) -> None:
    axes.imshow(picture)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(f"{percentile:.0f} %", fontsize=8, color=MUTED, labelpad=2)
