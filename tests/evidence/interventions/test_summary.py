"""The line of the log: numbers where there are any, and why where there are none."""

import numpy as np
import pandas as pd

from usae.evidence.interventions.summary import summary
from usae.evidence.interventions.tables import ABLATION, STITCHING

PAIRS = [(source, target) for source in "ab" for target in "ab"]


def stitching(*recovered):
    rows = [("usae", *pair, value, 3) for pair, value in zip(PAIRS, recovered, strict=False)]
    return pd.DataFrame(rows, columns=["method", "source", "target", "recovered", "labels"])


def ablation(q, agreement=(0.2, 0.4, 0.9)):
    return pd.DataFrame({"sae": "usae", "q": q, "agrees": np.less(q, 0.05), "agreement": agreement})


def test_means_over_pairs_of_models_and_counts_of_concepts():
    line = summary(stitching(1.0, 0.5, 0.7, 1.0), ablation([0.01, 0.5, 0.02]))
    assert line == (
        "0.60 of a readout recovered across models, 2 of 3 concepts act alike in all: "
        "agreement 0.40 in the median, 0.90 at most"
    )


def test_what_is_not_there_is_no_nan():
    nothing = ablation([np.nan] * 3, [np.nan] * 3)
    unread = summary(stitching(*[np.nan] * 4), nothing)
    assert unread.startswith(
        "no readout to recover: no model's own activations tell its 3 labels better than chance"
    )
    assert unread.endswith("no concept could be taken out: none fires in 20 images in every model")
    assert summary(stitching(1.0), nothing).startswith("one model alone: no readout through another")
    empty = pd.DataFrame(columns=[column.name for column in STITCHING.columns])
    without = summary(empty, pd.DataFrame(columns=[column.name for column in ABLATION.columns]))
    assert without.startswith("nothing to read out: no label is on training and on held-out images")
    assert "nan" not in unread + without
