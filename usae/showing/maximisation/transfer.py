"""Do the pictures mean anything: who likes whose, against real images, random directions and other starts.

Turns the portraits of stage `maximise` into tables `maximisation` and `maximisation_curves`, and writes the folder
that `pictures.py` describes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from usae.common.tables import no_rows, write_table
from usae.showing.maximisation.pictures import CURVES, picture_path
from usae.showing.maximisation.portraits import Collection
from usae.showing.maximisation.tables import MAXIMISATION, MAXIMISATION_CURVES

SURE = 99.0  # percentile of real images that a picture should exceed

Row = dict[str, Any]


def transfer_table(collection: Collection) -> pd.DataFrame:
    """Table `maximisation`: a row per target, start, model the picture is made for, and model that looks."""
    models = range(len(collection.models))
    rows = [
        _row(collection, place, i, start, j)
        for place, portrait in enumerate(collection.portraits)
        for start in range(portrait.scores.shape[2])
        for i in models
        for j in models
    ]
    return pd.DataFrame(rows, columns=MAXIMISATION.names)


def curve_table(collection: Collection) -> pd.DataFrame:
    """Table `maximisation_curves`: the score of the crops before each step."""
    frames = [
        pd.DataFrame(
            {
                "kind": target.kind,
                "concept_id": target.number,
                "start": start,
                "model": model,
                "step": np.arange(curve.size),
                "score": curve,
            }
        )
        for target, portrait in zip(collection.targets, collection.portraits, strict=True)
        for model, curves in zip(collection.models, portrait.curves, strict=True)
        for start, curve in enumerate(curves)
    ]
    return pd.concat(frames, ignore_index=True) if frames else no_rows(MAXIMISATION_CURVES)


def write_maximised(folder: Path, collection: Collection) -> None:
    """Write all pictures and the table of curves."""
    for target, portrait in zip(collection.targets, collection.portraits, strict=True):
        for model, starts in zip(collection.models, portrait.pictures, strict=True):
            for start, picture in enumerate(starts):
                path = picture_path(folder, target.name, model, start)
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(path)
    write_table(MAXIMISATION_CURVES, curve_table(collection), folder / CURVES)


def own_above(table: pd.DataFrame, kind: str = "concept") -> float:
    """Share of (target, model) whose first picture has a score above the 99th percentile of real images in it."""
    own = table[(table["kind"] == kind) & (table["start"] == 0) & (table["model"] == table["scored_by"])]
    return float((own["percentile"] > SURE).mean()) if len(own) else float("nan")


def _row(collection: Collection, place: int, i: int, start: int, j: int) -> Row:
    """What model j makes of the picture of target `place` that was made for model i."""
    models, portrait, target = collection.models, collection.portraits[place], collection.targets[place]
    natural, scores = collection.real[models[j]], portrait.scores[j, i, start]  # (images, n), (n,)
    z = (scores - natural.mean(axis=0)) / natural.std(axis=0)  # (n,)
    others = [n for n, other in enumerate(collection.targets) if other.kind == target.kind and n != place]
    repeat, repeat_others = _repeat(collection, place, others, i, start) if i == j else (np.nan, np.nan)
    return {
        "kind": target.kind,
        "concept_id": target.number,
        "start": start,
        "model": models[i],
        "scored_by": models[j],
        "score": scores[place],
        "z": z[place],
        "z_others": _mean(z[others]),
        "percentile": 100 * (natural[:, place] < scores[place]).mean(),
        "real_images": len(natural),
        "map_correlation": _correlation(portrait.maps[i, i, start], portrait.maps[j, i, start]),
        "repeat": repeat,
        "repeat_others": repeat_others,
    }


def _repeat(collection: Collection, place: int, others: Sequence[int], i: int, start: int) -> tuple[float, float]:
    """Cosine of a picture, as its model sees it, with that of the first start, and with those of other targets."""
    firsts = [portrait.views[i, 0] for portrait in collection.portraits]
    view = collection.portraits[place].views[i, start]
    own = float(view @ firsts[place]) if start else float("nan")
    return own, _mean(np.array([view @ firsts[other] for other in others]))


def _correlation(one: np.ndarray, two: np.ndarray) -> float:
    one, two = one - one.mean(), two - two.mean()
    size = float(np.linalg.norm(one) * np.linalg.norm(two))
    return float(one @ two) / size if size else float("nan")


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
