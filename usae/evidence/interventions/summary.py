"""What stage `interventions` says of its two tables, in one line."""

import pandas as pd

from usae.evidence.controls.names import RUN
from usae.evidence.interventions.ablation import LEAST_IMAGES


def summary(stitching: pd.DataFrame, ablation: pd.DataFrame) -> str:
    """Readouts through other models, and concepts that act alike in all; where there are none, why."""
    if stitching.empty:
        return "nothing to read out: no label is on training and on held-out images, so both tables are empty"
    return f"{_readouts(stitching)}, {_ablated(ablation[ablation['sae'] == RUN])}"


def _readouts(stitching: pd.DataFrame) -> str:
    cross = stitching[(stitching["method"] == RUN) & (stitching["source"] != stitching["target"])]
    if cross.empty:
        return "one model alone: no readout through another"
    if cross["recovered"].isna().all():
        labels = stitching["labels"].iloc[0]
        return f"no readout to recover: no model's own activations tell its {labels} labels better than chance"
    return f"{cross['recovered'].mean():.2f} of a readout recovered across models"


def _ablated(ablation: pd.DataFrame) -> str:
    tested = ablation[ablation["q"].notna()]
    if tested.empty:
        return f"no concept could be taken out: none fires in {LEAST_IMAGES} images in every model"
    agreement = tested["agreement"]
    return (
        f"{tested['agrees'].sum()} of {len(tested)} concepts act alike in all: agreement "
        f"{agreement.median():.2f} in the median, {agreement.max():.2f} at most"
    )
