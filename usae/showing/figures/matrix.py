"""How well each model is reconstructed from each model's codes (paper Fig. 5), for stage `report`."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from usae.showing.figures.theme import MAP, MISSING, RC, Picture, headline, percent, sentence

NAME = "r2_matrix"
CELL = 0.9  # inches


def r2_picture(reconstruction: pd.DataFrame, models: Sequence[str]) -> Picture:
    """The held-out R² matrix, with the SAEs trained on one model alone beside it where there are any."""
    matrix = r2_matrix(reconstruction, models, "usae")
    if np.isnan(matrix).all():
        return sentence(
            NAME, "No reconstruction was measured", "Run `dvc repro measure` to fill reconstruction.parquet."
        )
    alone = np.diag(r2_matrix(reconstruction, models, "independent"))  # (models,)
    claim = r2_claim(matrix)
    note = (
        "Held-out R² about the channel means: rows are the encoded model, columns the reconstructed one. The "
        "separate column is each model's own SAE, trained on it alone with the same budget. The paper's R², about "
        "one mean in all, is higher: column r2_scalar of reconstruction.parquet."
    )
    return Picture(NAME, claim, note, _draw(matrix, alone, models, claim))


def r2_matrix(
    reconstruction: pd.DataFrame, models: Sequence[str], sae: str, column: str = "r2_channel"
) -> np.ndarray:
    """Held-out values as (source, target), float64; NaN where the table has none."""
    rows = reconstruction[(reconstruction["sae"] == sae) & (reconstruction["split"] == "val")]
    table = rows.pivot(index="source", columns="target", values=column)
    return table.reindex(index=list(models), columns=list(models)).to_numpy(dtype=np.float64)


def r2_claim(matrix: np.ndarray) -> str:
    """The two means of the matrix in a sentence."""
    own = percent(float(np.nanmean(np.diag(matrix))))
    others = matrix[~np.eye(len(matrix), dtype=bool)]
    if not others.size or np.isnan(others).all():
        return f"The codes explain {own} of their own model's variance"
    return (
        f"Codes explain {own} of their own model's variance and {percent(float(np.nanmean(others)))} of another's"
    )


@mpl.rc_context(RC)
def _draw(matrix: np.ndarray, alone: np.ndarray, models: Sequence[str], claim: str) -> Figure:
    beside = not np.isnan(alone).all()
    ratios = [len(models), 1] if beside else [len(models)]
    figure = Figure(
        figsize=(CELL * (len(models) + 1.4 * beside) + 3.2, CELL * len(models) + 1.9), layout="constrained"
    )
    headline(figure, claim)
    axes = figure.subplots(1, len(ratios), width_ratios=ratios, squeeze=False)[0]
    top = max(0.05, float(np.nanmax(np.append(matrix, alone))))
    image = _cells(axes[0], matrix, top)
    axes[0].set(xlabel="reconstructed model", ylabel="encoded model")
    axes[0].set_xticks(range(len(models)), models)
    axes[0].set_yticks(range(len(models)), models)
    if beside:
        _cells(axes[1], alone[:, None], top)
        axes[1].set_xticks([0], ["own SAE"])
        axes[1].set_yticks([])
    figure.colorbar(image, ax=list(axes), label="held-out R² (share of variance)", shrink=0.9, extend="min")
    return figure


def _cells(axes: Axes, values: np.ndarray, top: float) -> AxesImage:
    image = axes.imshow(values, cmap=MAP, vmin=0.0, vmax=top)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for (row, column), value in np.ndenumerate(values):
        colour = "black" if value > 0.6 * top else "white"
        text = MISSING if np.isnan(value) else f"{value:.2f}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=14)
    return image
