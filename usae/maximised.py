"""The folder `data/maximised`: pictures, their scores beside those of real images, and the optimisation curves.

Written by stage `maximise`, read by `report`. `<concept>/<model>.png` is the picture (alpha = attribution),
`scores.json` has one record per picture, `curves.parquet` is the table `maximisation` of usae/tables.py.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from usae.tables import write_table

SCORES, CURVES = "scores.json", "curves.parquet"


@dataclass(frozen=True)
class Maximised:
    """What one model made of the concepts, in their order."""

    pictures: np.ndarray  # (concepts, size, size, 4) uint8; alpha is the attribution mask
    curve: np.ndarray  # (steps, concepts) float32: score of the crops before each step
    scores: np.ndarray  # (concepts,) float32: score of the whole final picture


@dataclass(frozen=True)
class Score:
    """How much a model likes its picture: mean code before ReLU and TopK, and its place among real images."""

    concept_id: int
    model: str
    score: float
    percentile: float  # share of the real images that score lower, in percent
    real_images: int


def write_maximised(
    folder: Path, concepts: Sequence[int], results: Mapping[str, Maximised], real: Mapping[str, np.ndarray]
) -> list[Score]:
    """Write pictures, scores and curves of all models; `real` as of `usae.yardstick`."""
    scores = []
    for model, result in results.items():
        for place, concept in enumerate(concepts):
            picture = picture_path(folder, concept, model)
            picture.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(result.pictures[place]).save(picture)
            score, natural = float(result.scores[place]), real[model][:, place]
            percentile = 100 * float((natural < score).mean())
            scores.append(Score(int(concept), model, round(score, 6), round(percentile, 3), len(natural)))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SCORES).write_text(json.dumps([asdict(score) for score in scores], indent=1) + "\n")
    write_table("maximisation", _curves(concepts, results), folder / CURVES)
    return scores


def read_scores(folder: Path) -> dict[tuple[int, str], Score]:
    """The scores in `folder` by concept and model; none where nothing was maximised."""
    if not (folder / SCORES).is_file():
        return {}
    scores = (Score(**record) for record in json.loads((folder / SCORES).read_text()))
    return {(score.concept_id, score.model): score for score in scores}


def picture_path(folder: Path, concept: int, model: str) -> Path:
    """Where the picture of a concept for a model lies."""
    return folder / str(concept) / f"{model}.png"


def _curves(concepts: Iterable[int], results: Mapping[str, Maximised]) -> pd.DataFrame:
    """Rows of the table `maximisation`: concept by concept, then model by model, then step by step."""
    frames = [
        pd.DataFrame({"concept_id": concept, "model": model, "step": np.arange(len(result.curve)), "score": line})
        for place, concept in enumerate(concepts)
        for model, result in results.items()
        for line in [result.curve[:, place]]
    ]
    empty = pd.DataFrame({"concept_id": [], "model": [], "step": [], "score": []})
    return pd.concat(frames, ignore_index=True) if frames else empty
