"""How well a score ranks: used by the probes of stage `weights` and by the metrics that ask for known concepts."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata


def roc_auc(scores: NDArray[np.floating], labels: NDArray[np.bool_]) -> float:
    """Chance that a positive outranks a negative, ties counting half (Mann-Whitney); NaN without both kinds."""
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(scores)[labels].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))
