"""Table `planted`: what was found and what was called universal, over all worlds, with intervals.

Shares of concepts have Wilson's interval of 95 % over all planted concepts of all seeds. Means of cosines and of
AUROCs stand between the least and the largest seed's: of five seeds, an interval of 94 % for the median of all.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from usae.common.numerics.intervals import wilson
from usae.common.numerics.ranking import roc_auc
from usae.evidence.planted.verdicts import RULES, SCORES
from usae.evidence.planted.world import SHARED

OTHERS = "others"  # all kinds but shared, together
TRACKED, CALLED_UNIVERSAL, PRECISION = "tracked", "called universal", "precision"  # quantities of table `planted`
SHARES = {"found": "direction", "agreed": "direction", TRACKED: "activity"}  # quantity: by what
COLUMNS = ["setting", "quantity", "by", "kind", "value", "low", "high", "planted"]

Row = tuple[str, str, float, float, float, int]  # quantity, by, value, low, high, planted


def summary(concepts: pd.DataFrame, codes: pd.DataFrame) -> pd.DataFrame:
    """Rows of table `planted` from those of `planted_concepts` and the codes (see `verdicts.precision_rows`)."""
    rows = [
        (setting, *row[:2], kind, *row[2:])
        for setting, members in concepts.groupby("setting", sort=False)
        for kind, chosen in _kinds(members)
        for row in (*_recovered(chosen), *_called(chosen), *_separated(members, chosen))
    ]
    rows += [
        (setting, *row[:2], SHARED, *row[2:])
        for setting, members in codes.groupby("setting", sort=False)
        for row in _precise(members)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _kinds(concepts: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Concepts of each kind, and all that are not shared."""
    for kind, members in concepts.groupby("kind", sort=False):
        yield str(kind), members
    others = concepts[concepts["kind"] != SHARED]
    if len(others):
        yield OTHERS, others


def _recovered(chosen: pd.DataFrame) -> Iterator[Row]:
    yield "cosine", "direction", *_over_seeds(chosen.groupby("seed")["best_cosine"].mean()), len(chosen)
    for quantity, by in SHARES.items():
        yield quantity, by, *_share(chosen[quantity])


def _called(chosen: pd.DataFrame) -> Iterator[Row]:
    for rule in RULES:
        yield CALLED_UNIVERSAL, rule, *_share(chosen.loc[chosen[TRACKED], f"called_{rule}"])


def _precise(codes: pd.DataFrame) -> Iterator[Row]:
    for rule in RULES:
        yield PRECISION, rule, *_share(codes.loc[codes[f"called_{rule}"], SHARED])


def _separated(concepts: pd.DataFrame, chosen: pd.DataFrame) -> Iterator[Row]:
    """How well each score ranks tracked shared concepts above the tracked ones of `chosen`, world by world."""
    positive = concepts[(concepts["kind"] == SHARED) & concepts[TRACKED]]
    negative = chosen[(chosen["kind"] != SHARED) & chosen[TRACKED]]
    for score in SCORES if (chosen["kind"] != SHARED).any() else ():
        values = [
            separation(positive.loc[positive["seed"] == seed, score], rows[score])
            for seed, rows in negative.groupby("seed")
        ]
        yield "auroc", score, *_over_seeds(pd.Series(values, dtype=float)), len(positive) + len(negative)


def separation(positive: "pd.Series[float]", negative: "pd.Series[float]") -> float:
    """AUROC of scores of positives above those of negatives; a score that is not defined ranks last."""
    scores = np.nan_to_num(pd.concat([positive, negative]).to_numpy(dtype=float), nan=-1.0)
    return roc_auc(scores, np.arange(len(scores)) < len(positive))


def _over_seeds(values: "pd.Series[float]") -> tuple[float, float, float]:
    """Mean, least and largest; NaN where there is none."""
    return float(values.mean()), float(values.min()), float(values.max())


def _share(members: "pd.Series[float]") -> tuple[float, float, float, int]:
    """Share, its interval, and of how many."""
    share = float(members.mean()) if len(members) else float("nan")
    return share, *wilson(share, len(members)), len(members)
