"""How well each model is reconstructed from each model's codes (paper Fig. 5), for stage `report`."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from usae.showing.figures.theme import MAP, MISSING, OKABE_ITO, RC, Picture, explained, headline, sentence

NAME = "r2_matrix"
CELL, DENSE_CELL = 0.9, 0.55  # inches, of few models and of many
MANY = 6  # models above which cells are small and names stand upright
ALONE = {"independent": "own SAE", "brief": "brief"}  # SAEs of one model alone -> their heading
BELOW_0 = OKABE_ITO[1]


def r2_picture(reconstruction: pd.DataFrame, models: Sequence[str]) -> Picture:
    """The held-out R² matrix, with the SAEs trained on one model alone beside it where there are any."""
    matrix = r2_matrix(reconstruction, models, "usae")
    if np.isnan(matrix).all():
        return sentence(
            NAME, "No reconstruction was measured", "Run `dvc repro measure` to fill reconstruction.parquet."
        )
    start = r2_matrix(reconstruction, models, "start")
    alone = np.stack([np.diag(r2_matrix(reconstruction, models, sae)) for sae in ALONE], axis=1)  # (models, saes)
    ridge = _ceiling(reconstruction, models)
    claim = r2_claim(matrix, start)
    note = (
        "Held-out R² about the channel means: rows are the encoded model, columns the reconstructed one. Small: "
        "what the best linear map of the one model's activations explains of the other's (ridge). The separate "
        "columns are SAEs of each model alone: its dictionary updated as often as the universal one's (own SAE), "
        "or its encoder (brief). The paper's R², about one mean in all, is higher: column r2_scalar of "
        "reconstruction.parquet."
    )
    return Picture(NAME, claim, note, _draw(matrix, ridge, alone, models, claim))


def r2_matrix(
    reconstruction: pd.DataFrame, models: Sequence[str], sae: str, column: str = "r2_channel"
) -> np.ndarray:
    """Held-out values as (source, target), float64; NaN where the table has none."""
    rows = reconstruction[(reconstruction["sae"] == sae) & (reconstruction["split"] == "val")]
    table = rows.pivot(index="source", columns="target", values=column)
    return table.reindex(index=list(models), columns=list(models)).to_numpy(dtype=np.float64)


def _ceiling(reconstruction: pd.DataFrame, models: Sequence[str]) -> np.ndarray:
    """R² of the best linear map, as (source, target); NaN from a model to itself, and where none was fitted."""
    if "r2_ridge" not in reconstruction:
        return np.full((len(models), len(models)), np.nan)
    ridge = r2_matrix(reconstruction, models, "usae", "r2_ridge")
    return np.where(np.eye(len(models), dtype=bool), np.nan, ridge)


def r2_claim(matrix: np.ndarray, start: np.ndarray) -> str:
    """The two means of the matrix in a sentence, and those of the start where it was measured."""
    own, *others = own_and_other(matrix)
    claim = f"Codes explain {own} of their own model's variance" + "".join(
        f" and {r2} of another's" for r2 in others
    )
    return (
        claim if np.isnan(start).all() else f"{claim}; before the first step {' and '.join(own_and_other(start))}"
    )


def own_and_other(matrix: np.ndarray) -> list[str]:
    """Mean R² of a model's own codes and, where there are two models, of another's, in words."""
    others = matrix[~np.eye(len(matrix), dtype=bool)]
    means = [np.nanmean(np.diag(matrix)), *([] if np.isnan(others).all() else [np.nanmean(others)])]
    return [explained(float(mean)) for mean in means]


@mpl.rc_context(RC)
def _draw(matrix: np.ndarray, ridge: np.ndarray, alone: np.ndarray, models: Sequence[str], claim: str) -> Figure:
    measured = ~np.isnan(alone).all(axis=0)  # (saes,)
    alone, names = alone[:, measured], [name for name, has in zip(ALONE.values(), measured, strict=True) if has]
    ratios = [len(models), len(names)] if names else [len(models)]
    cell = DENSE_CELL if len(models) > MANY else CELL
    width = cell * (len(models) + 1.3 * len(names)) + (4.6 if len(models) > MANY else 3.2)
    figure = Figure(figsize=(width, cell * len(models) + 2.1), layout="constrained")
    headline(figure, claim)
    axes = figure.subplots(1, len(ratios), width_ratios=ratios, squeeze=False)[0]
    low, top = (float(extreme(np.append(matrix, alone))) for extreme in (np.nanmin, np.nanmax))
    image = _cells(axes[0], matrix, max(0.05, top))
    _beside(axes[0], ridge, max(0.05, top), matrix)
    axes[0].set(xlabel="reconstructed model", ylabel="encoded model")
    axes[0].set_xticks(range(len(models)), models, rotation=_rotation(models))
    axes[0].set_yticks(range(len(models)), models)
    if names:
        _cells(axes[1], alone, max(0.05, top))
        axes[1].set_xticks(range(len(names)), names, rotation=_rotation(models))
        axes[1].set_yticks([])
    figure.colorbar(image, ax=list(axes), label="held-out R² (share of variance)", shrink=0.9,
                    extend="min" if low < 0 else "neither")  # fmt: skip
    return figure


def _rotation(models: Sequence[str]) -> int:
    """Degrees by which names under a matrix turn."""
    return 90 if len(models) > MANY else 0


def _cells(axes: Axes, values: np.ndarray, top: float) -> AxesImage:
    colours = mpl.colormaps[MAP].with_extremes(under=BELOW_0)
    image = axes.imshow(values, cmap=colours, vmin=0.0, vmax=top)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    size = 9 if len(values) > MANY else 14
    for (row, column), value in np.ndenumerate(values):
        text = MISSING if np.isnan(value) else f"{value:.2f}".replace("-", "\u2212")
        axes.text(column, row, text, ha="center", va="center", color=_ink(value, top), fontsize=size)
    return image


def _beside(axes: Axes, ridge: np.ndarray, top: float, matrix: np.ndarray) -> None:
    """Under the number of a cell what the best linear map gives, named where there is room."""
    name, size = ("", 6.5) if len(ridge) > MANY else ("ridge ", 9)
    for row, column in np.argwhere(np.isfinite(ridge)):
        text, colour = f"{name}{ridge[row, column]:.2f}", _ink(matrix[row, column], top)
        axes.text(column, row + 0.3, text, ha="center", va="center", color=colour, fontsize=size)


def _ink(value: float, top: float) -> str:
    """Of a text on the colour of `value`."""
    return "black" if value > 0.6 * top else "white"
