"""Do the pictures mean anything: every model's score of every picture, against real images, random directions and
other starts.

Turns what stage `maximise` made into tables `maximisation` and `maximisation_curves`, and writes the folder that
`pictures.py` describes.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from usae.common.files.whole import write_output
from usae.common.tables import no_rows, write_table
from usae.showing.maximisation.pictures import CURVES, HIGH_PERCENTILE, picture_path
from usae.showing.maximisation.tables import MAXIMISATION, MAXIMISATION_CURVES
from usae.showing.maximisation.targets import Maximisation


def transfer_table(maximisation: Maximisation) -> pd.DataFrame:
    """Table `maximisation`: a row per target, start, model the picture is made for, and model that scores it."""
    rows = [
        _row(maximisation, n, start, model, scored_by)
        for n, maximised in enumerate(maximisation.maximised)
        for start in range(maximised.scores.shape[2])
        for model in maximisation.models
        for scored_by in maximisation.models
    ]
    return pd.DataFrame(rows, columns=MAXIMISATION.names)


def curve_table(maximisation: Maximisation) -> pd.DataFrame:
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
        for target, maximised in zip(maximisation.targets, maximisation.maximised, strict=True)
        for model, curves in zip(maximisation.models, maximised.curves, strict=True)
        for start, curve in enumerate(curves)
    ]
    return pd.concat(frames, ignore_index=True) if frames else no_rows(MAXIMISATION_CURVES)


def write_maximised(folder: Path, maximisation: Maximisation) -> None:
    """Write all pictures and the table of curves."""
    for target, maximised in zip(maximisation.targets, maximisation.maximised, strict=True):
        for model, starts in zip(maximisation.models, maximised.pictures, strict=True):
            for start, picture in enumerate(starts):
                buffer = io.BytesIO()
                Image.fromarray(picture).save(buffer, "PNG")
                write_output(picture_path(folder, target.name, model, start), buffer.getvalue())
    write_table(MAXIMISATION_CURVES, curve_table(maximisation), folder / CURVES)


def summary(table: pd.DataFrame) -> str:
    """What table `maximisation` says, in a line."""
    concepts = table.loc[table["kind"] == "concept", "concept_id"].nunique()
    if not concepts:
        return "no concept to maximise: see `maximise.rule` and `maximise.concepts` in params.yaml"
    shares = [share_above_real_images(table, kind) for kind in ("concept", "random")]
    return (
        f"{concepts} concepts; {shares[0]:.0%} of their pictures beat 99 % of real images in their own model, "
        f"{shares[1]:.0%} of those of random directions"
    )


def share_above_real_images(table: pd.DataFrame, kind: str = "concept") -> float:
    """Share of (target, model) whose first picture scores higher in that model than 99 % of real images."""
    own = table[(table["kind"] == kind) & (table["start"] == 0) & (table["model"] == table["scored_by"])]
    return float((own["percentile"] > HIGH_PERCENTILE).mean()) if len(own) else float("nan")


def _row(maximisation: Maximisation, n: int, start: int, model: str, scored_by: str) -> dict[str, Any]:
    """What one model gives to the picture of target `n` that was made for another, or for itself."""
    i, j = maximisation.models.index(model), maximisation.models.index(scored_by)
    maximised, target = maximisation.maximised[n], maximisation.targets[n]
    real, scores = maximisation.real[scored_by], maximised.scores[j, i, start]  # (images, targets), (targets,)
    z = (scores - real.mean(axis=0)) / real.std(axis=0)  # (targets,)
    others = [o for o, other in enumerate(maximisation.targets) if other.kind == target.kind and o != n]
    repeat, repeat_others = _repeat(maximisation, n, others, start, i) if i == j else (np.nan, np.nan)
    return {
        "kind": target.kind,
        "concept_id": target.number,
        "start": start,
        "model": model,
        "scored_by": scored_by,
        "score": scores[n],
        "z": z[n],
        "z_others": _mean(z[others]),
        "percentile": 100 * (real[:, n] < scores[n]).mean(),
        "real_images": len(real),
        "map_correlation": _correlation(maximised.maps[i, i, start], maximised.maps[j, i, start]),
        "repeat": repeat,
        "repeat_others": repeat_others,
    }


def _repeat(
    maximisation: Maximisation, n: int, others: Sequence[int], start: int, model: int
) -> tuple[float, float]:
    """Cosine of a picture's mean token in its own model with that from start 0, and with other targets' from 0."""
    firsts = [maximised.mean_tokens[model, 0] for maximised in maximisation.maximised]
    mean_token = maximisation.maximised[n].mean_tokens[model, start]
    own = float(mean_token @ firsts[n]) if start else float("nan")
    return own, _mean(np.array([mean_token @ firsts[other] for other in others]))


def _correlation(one: np.ndarray, two: np.ndarray) -> float:
    one, two = one - one.mean(), two - two.mean()
    size = float(np.linalg.norm(one) * np.linalg.norm(two))
    return float(one @ two) / size if size else float("nan")


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
