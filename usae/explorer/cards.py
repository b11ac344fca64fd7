"""One card per concept: its images, each model's heatmap on them, and its numbers (stage `report`)."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from usae.figures.heat import encoded, heat_rgba, strip
from usae.gallery import Exhibit
from usae.maximised import Score, picture_path


@dataclass(frozen=True)
class Best:
    """The picture that a model likes best for the concept."""

    picture: str
    score: float
    percentile: float
    real_images: int


@dataclass(frozen=True)
class Row:
    """One model on the card's images; `peak` is the top of its colour scale."""

    model: str
    heat: str
    peak: float
    fires: int
    cofire_proportion: float
    best: Best | None


@dataclass(frozen=True)
class Card:
    """What the template shows of one concept; numbers are those of the tables, NaN where they have none."""

    concept: int
    owner: str | None
    label: str | None
    label_share: float
    label_base: float
    fires: int
    cofires: int
    tokens: int
    universality: float
    lift: float
    entropy: float
    energy: float
    images: tuple[int, ...]
    photos: str
    rows: tuple[Row, ...]

    @property
    def maximised(self) -> bool:
        """True when at least one model has a picture of it."""
        return any(row.best for row in self.rows)


@dataclass(frozen=True)
class Maximisation:
    """The folder of stage `maximise` and its scores; no scores where the stage has not run."""

    folder: Path
    scores: Mapping[tuple[int, str], Score]

    def best(self, concept: int, model: str) -> Best | None:
        """The picture of a concept for a model, if it was made."""
        score = self.scores.get((concept, model))
        path = picture_path(self.folder, concept, model)
        if score is None or not path.is_file():
            return None
        return Best(data_uri(path.read_bytes(), "image/png"), score.score, score.percentile, score.real_images)


def make_card(
    exhibit: Exhibit,
    photos: np.ndarray,
    concepts: pd.DataFrame,
    concept_models: pd.DataFrame,
    maximisation: Maximisation,
) -> Card:
    """The card of one exhibit.

    Shapes: photos [n, side, side, 3] uint8. `concepts` and `concept_models` are the tables, indexed by concept_id
    and by (concept_id, model).
    """
    numbers: Any = concepts.loc[exhibit.choice.concept]
    return Card(
        concept=exhibit.choice.concept,
        owner=exhibit.choice.owner,
        label=None if pd.isna(numbers["top_label"]) else str(numbers["top_label"]),
        label_share=_real(numbers["top_label_share"]),
        label_base=_real(numbers["top_label_base"]),
        fires=int(numbers["fires"]),
        cofires=int(numbers["cofires"]),
        tokens=int(numbers["tokens"]),
        universality=_real(numbers["universality"]),
        lift=_real(numbers["lift"]),
        entropy=_real(numbers["firing_entropy"]),
        energy=_real(numbers["energy"]),
        images=exhibit.images,
        photos=data_uri(encoded(strip(photos), "jpeg"), "image/jpeg") if exhibit.images else "",
        rows=tuple(_row(exhibit, model, concept_models, maximisation) for model in exhibit.models),
    )


def data_uri(content: bytes, kind: str) -> str:
    """Content as a URI that holds all of it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _row(exhibit: Exhibit, model: str, concept_models: pd.DataFrame, maximisation: Maximisation) -> Row:
    concept, peak = exhibit.choice.concept, exhibit.peak(model)
    codes = exhibit.codes[exhibit.models.index(model)]  # (n, rows, columns)
    numbers: Any = concept_models.loc[(concept, model)]
    heat = data_uri(encoded(strip(heat_rgba(codes, peak)), "png"), "image/png") if exhibit.images else ""
    return Row(
        model=model,
        heat=heat,
        peak=peak,
        fires=int(numbers["fires"]),
        cofire_proportion=_real(numbers["cofire_proportion"]),
        best=maximisation.best(concept, model),
    )


def _real(value: Any) -> float:
    return float("nan") if pd.isna(value) else float(value)
