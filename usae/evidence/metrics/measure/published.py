"""Table `paper`: the numbers that arXiv 2502.03714 prints, and the same of this run (stage `measure`).

Version 1 (February 2025) and version 2 (ICML); numbers read off figures are as exact as the figures. What differs
in setting is said beside each. Numbers of one model meet ours only where a slug of this run is the paper's
(`presets/imagenet.yaml`); means over models always do.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from usae.common.numerics.numbers import Numbers, rounded
from usae.evidence.metrics.firing.counts import HIGH_ENTROPY
from usae.evidence.metrics.summary import HELD_OUT, USAE

EVERY = "/*"  # ends the name of a mean over models
MODELS = ("siglip", "dinov2", "vit")
IMAGES = 50_000  # held out: all of ImageNet's validation split

R2 = (
    "paper: ImageNet val, last layers of ViT-S and ViT-B sizes, 6144 concepts, three days of training; about one"
    " scalar mean, as here; whether of the whole set or of batches is not said"
)
ALONE = f"{R2}; read off a figure; how long the independent SAEs were trained is not said"
ENTROPY = f"paper: more than 1000 of 6144 at the peak; here: above {HIGH_ENTROPY}, of the alive ones"
TOP = (
    "the 1000 concepts with the most energy, of 6144 in the paper; k and threshold are not in it (official code:"
    " 32 and 0.1)"
)
ENERGY = "logarithms; here energy is the mean code, in the paper's formula its square, which doubles the slope"
OFTEN = f"{ENERGY}; 1000 co-fires are a larger share of this run's tokens than of the paper's"
MATCHED = "matched with SAEs of one model; their training is not described; here they have seeds of their own"
TOPS = f"{MATCHED}; top 1000 of 6144 by co-fires, here the top sixth"
RANDOM = "paper: one baseline, of 768 channels (DINOv2's 384 would give 0.18); here each model's own width, a mean"
SHIFTED = "own activations on other images; this run's on the images that `ood.images` names are in table ood"


@dataclass(frozen=True)
class Published:
    """A number of the paper. model: empty for means. ours: its name among this run's numbers, if it has one."""

    where: str
    quantity: str
    model: str
    value: float
    ours: str
    differs: str


def paper_frame(numbers: Numbers, reconstruction: pd.DataFrame) -> pd.DataFrame:
    """Table `paper`, from the numbers of table `summary` and from table `reconstruction`."""
    ours = {**numbers, **_of_reconstruction(reconstruction)}
    values = [_ours(row.ours, ours) for row in PUBLISHED]
    same = set(reconstruction["source"]) == set(MODELS) and numbers.get("images") == IMAGES
    return pd.DataFrame(
        {
            "where": [row.where for row in PUBLISHED],
            "quantity": [row.quantity for row in PUBLISHED],
            "model": [row.model or None for row in PUBLISHED],
            "paper": [row.value for row in PUBLISHED],
            "ours": values,
            "difference": [
                value - row.value if same else np.nan for row, value in zip(PUBLISHED, values, strict=True)
            ],
            "differs": [row.differs for row in PUBLISHED],
        }
    )


def _ours(name: str, numbers: Numbers) -> float:
    """The number of that name; NaN where this run has none."""
    if name.endswith(EVERY):
        values = [value for key, value in numbers.items() if key.startswith(name[:-1]) and value is not None]
        return rounded(float(np.mean(values))) or np.nan if values else np.nan
    value = numbers.get(name)
    return np.nan if value is None else float(value)


def _of_reconstruction(table: pd.DataFrame) -> Numbers:
    """R2 about one scalar mean of every pair, of independent SAEs, and the MSE of every model's own codes."""
    numbers: Numbers = {}
    for row in table[table["split"] == HELD_OUT].to_dict("records"):
        pair = f"{row['source']} to {row['target']}"
        shared, own = row["sae"] == USAE, row["source"] == row["target"]
        numbers[f"pair/{pair}" if shared else f"alone/{row['source']}"] = rounded(row["r2_scalar"])
        if shared and own:
            numbers[f"mse/{row['source']}"] = rounded(row["mse"])
    return numbers


def _each(
    where: str, quantity: str, values: tuple[float, float, float], ours: str, differs: str
) -> Iterator[Published]:
    """The mean over models, and each model."""
    mean = round(sum(values) / len(values), 3)
    yield Published(where, f"{quantity}, mean over models", "", mean, f"{ours}{EVERY}" if ours else "", differs)
    for model, value in zip(MODELS, values, strict=True):
        yield Published(where, quantity, model, value, f"{ours}/{model}" if ours else "", differs)


def _pairs(rows: Mapping[str, tuple[float, float, float]]) -> Iterator[Published]:
    """The matrix, source by target."""
    for source, values in rows.items():
        for target, value in zip(MODELS, values, strict=True):
            pair = f"{source} to {target}"
            yield Published("Fig. 5", "R2 of the target", pair, value, f"pair/{pair}", R2)


PUBLISHED: tuple[Published, ...] = (
    Published("Fig. 5", "R2 of own activations, mean over models", "", 0.657, "r2_scalar_self_mean", R2),
    Published("Fig. 5", "R2 of other models, mean over pairs", "", 0.330, "r2_scalar_cross_mean", R2),
    *_pairs({"siglip": (0.61, 0.36, 0.25), "dinov2": (0.31, 0.77, 0.31), "vit": (0.30, 0.45, 0.59)}),
    *_each("Fig. 5", "R2 of an independent SAE", (0.7, 0.8, 0.7), "alone", ALONE),
    *_each("v2, Table 1", "mean squared error, ImageNet", (0.39, 0.19, 0.41), "mse", R2),
    Published(
        "Fig. 6", "share of concepts at the entropy's peak", "", 0.163, "firing_entropy_high_share", ENTROPY
    ),
    *_each("Fig. 6", "co-fire proportion of the top 1000", (0.344, 0.266, 0.326), "cofire_proportion", TOP),
    Published("importance", "r of co-fires and energy", "", 0.63, "importance_r", ENERGY),
    Published("importance", "slope of energy on co-fires", "", 0.23, "importance_slope", ENERGY),
    Published("importance", "r above 1000 co-fires", "", 0.89, "importance_frequent_r", OFTEN),
    *_each("consistency", "area under the curve", (0.30, 0.36, 0.41), "consistency_auc/all", MATCHED),
    *_each("consistency", "share above 0.5", (0.23, 0.26, 0.38), "consistency_above_half/all", MATCHED),
    Published("consistency", "random dictionaries", "", 0.13, "consistency_gaussian_auc_mean", RANDOM),
    *_each("consistency, v1", "top 1000, area", (0.30, 0.36, 0.40), "consistency_auc/top_cofiring", TOPS),
    *_each("consistency, v2", "top 1000, mean cosine", (0.40, 0.65, 0.52), "consistency_auc/top_cofiring", TOPS),
    *_each("v2, Table 1", "mean squared error, DTD", (0.38, 0.26, 0.56), "", SHIFTED),
    *_each("v2, Table 1", "mean squared error, CelebA", (0.48, 0.22, 0.69), "", SHIFTED),
    *_each("v2, Table 1", "R2, DTD", (0.54, 0.69, 0.46), "", SHIFTED),
    *_each("v2, Table 1", "R2, CelebA", (0.52, 0.75, 0.45), "", SHIFTED),
)
