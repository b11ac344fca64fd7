"""Does the universal SAE find the concepts that an SAE of one model alone finds? (stage `measure`)

The concepts of two dictionaries are matched one to one so that the sum of their cosines is largest (Hungarian
method; arXiv 2502.03714). How well random directions match depends on their number and width, so the baseline has
the same of both. Concatenated, the dictionaries of all models are one wide one: so two seeds of a universal SAE
are matched.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from usae.common.numerics.matching import matching, random_matching
from usae.common.runtime.progress import progress
from usae.common.types import Array

HALF = 0.5
THRESHOLDS = np.linspace(0, 1, 101)
INDEPENDENT, GAUSSIAN = "independent", "gaussian"


def consistency_frame(
    universal: Mapping[str, Mapping[str, Array]], independent: Mapping[str, Array], seed: int
) -> pd.DataFrame:
    """Table `consistency` of directions (c, d) by model: of universal SAEs by name, and of independent ones.

    Beside the first universal SAE stand random directions of its size; models of one width share them.
    """
    baselines: dict[tuple[int, ...], Array] = {}
    frames = []
    for model in progress(independent, total=len(independent), description="consistency", unit="model"):
        for sae, by_model in universal.items():
            partner, cosine = matching(by_model[model], independent[model])
            frames.append(_matched(partner, cosine).assign(model=model, sae=sae, against=INDEPENDENT))
        first = next(iter(universal))
        shape = universal[first][model].shape
        if shape not in baselines:
            baselines[shape] = random_matching(shape[0], shape[1], seed)
        floor = _matched(np.full(shape[0], -1), baselines[shape])
        frames.append(floor.assign(model=model, sae=first, against=GAUSSIAN))
    if not frames:
        return pd.DataFrame(columns=["model", "sae", "against", "concept_id", "partner", "cosine"])
    frame = pd.concat(frames, ignore_index=True)
    return frame.assign(partner=frame["partner"].where(frame["partner"] >= 0).astype("Int32"))


def _matched(partner: Array, cosine: Array) -> pd.DataFrame:
    return pd.DataFrame({"concept_id": np.arange(len(cosine)), "partner": partner, "cosine": cosine})


def auc(cosines: Array) -> float:
    """Area under `survival`: the mean of the cosines, negative ones as 0; NaN of none."""
    return float(np.clip(cosines, 0, 1).mean()) if len(cosines) else float("nan")


def above(cosines: Array, threshold: float = HALF) -> float:
    """Share of the cosines above a threshold; NaN of none."""
    return float((cosines > threshold).mean()) if len(cosines) else float("nan")


def survival(cosines: Array, thresholds: Array = THRESHOLDS) -> Array:
    """(thresholds,) share of the cosines above each."""
    return np.array([above(cosines, threshold) for threshold in thresholds])
