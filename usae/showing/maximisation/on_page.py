"""The pictures as the concept explorer shows them: `reports/maximised.js`, which the page loads if it is there.

Written by stage `maximise`, so that the page is there before its pictures.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from usae.showing.maximisation.pictures import picture_path, read_curves, read_picture
from usae.showing.scripts import Json, plain_value, webp

PAGE_PICTURES = "maximised.js"  # beside index.html
CURVE_POINTS = 64
PICTURE, QUALITY = 128, 80  # most pixels per side, of WebP


def page_pictures(table: pd.DataFrame, folder: Path, models: Sequence[str], also: Sequence[int]) -> Json:
    """By concept its pictures, curves and transfer; what random directions reach; and `maximise.also`.

    `table` is `maximisation`; `folder` holds the pictures and curves (`pictures.py`).
    """
    return {"cells": picture_cells(table, folder, models), "control": control_cell(table), "also": list(also)}


def picture_cells(table: pd.DataFrame, folder: Path, models: Sequence[str]) -> Json:
    """Per maximised concept the pictures of start 0, their curves, and every model's score of every picture."""
    curves = read_curves(folder)
    curves = curves[(curves["kind"] == "concept") & (curves["start"] == 0)]
    lines = {key: rows["score"].tolist() for key, rows in curves.groupby(["concept_id", "model"])}
    first = table[(table["kind"] == "concept") & (table["start"] == 0)]
    repeats = table[table["kind"] == "concept"].groupby(["concept_id", "model"])["repeat"].mean()
    return {
        str(concept): {
            "pictures": _pictures(folder, str(concept), models),
            "curves": {model: _thinned(lines.get((concept, model), [])) for model in models},
            "z": _matrix(rows, models, "z"),
            "percentile": _matrix(rows, models, "percentile"),
            "real_images": int(rows["real_images"].max()),
            "repeat": {model: plain_value(repeats.get((concept, model))) for model in models},
        }
        for concept, rows in first.groupby("concept_id")
    }


def control_cell(table: pd.DataFrame) -> Json | None:
    """What random directions reach: mean z in the own and in other models; None where there are none."""
    random = table[table["kind"] == "random"] if len(table) else table
    if random.empty:
        return None
    own = random["model"] == random["scored_by"]
    means = {"own": random.loc[own, "z"].mean(), "others": random.loc[~own, "z"].mean()}
    return {name: plain_value(float(value)) for name, value in means.items()} | {
        "directions": int(random["concept_id"].nunique())
    }


def small_picture(path: Path) -> str:
    """A picture, its transparency kept, small enough for the page."""
    picture = read_picture(path)
    picture.thumbnail((PICTURE, PICTURE), Image.Resampling.LANCZOS)
    return webp(picture, QUALITY)


def _pictures(folder: Path, concept: str, models: Sequence[str]) -> Mapping[str, str | None]:
    paths = {model: picture_path(folder, concept, model) for model in models}
    return {model: small_picture(path) if path.is_file() else None for model, path in paths.items()}


def _matrix(rows: pd.DataFrame, models: Sequence[str], column: str) -> list[list[Any]]:
    """(made for, seen by)."""
    table = rows.pivot(index="model", columns="scored_by", values=column).reindex(
        index=list(models), columns=list(models)
    )
    return [[plain_value(float(value)) for value in row] for row in table.to_numpy()]


def _thinned(line: Sequence[float]) -> list[Any]:
    step = max(1, len(line) // CURVE_POINTS)
    return [plain_value(float(value)) for value in line[::step]]
