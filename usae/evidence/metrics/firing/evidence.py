"""One row per concept: does it co-fire beyond chance, and is it alive in all models?"""

import numpy as np
import pandas as pd

from usae.common.numerics.significance import significance
from usae.common.types import Array
from usae.evidence.metrics.firing.counts import FiringCounts, firing_entropy


def evidence(firing: FiringCounts, permuted: Array) -> pd.DataFrame:
    """A row per concept: do all models co-fire more often than with re-paired images, `permuted` (B, c)?"""
    fires = firing.fires
    null_test = significance(firing.cofires, permuted, np.asarray(fires.all(axis=0)))
    columns = {
        "concept_id": np.arange(firing.concepts),
        "models_alive": (fires > 0).sum(axis=0),
        "firing_entropy": firing_entropy(fires),
        "cofires": firing.cofires,
        "null_mean": null_test.mean,
        "lift": null_test.lift,
        "p": null_test.p,
        "q": null_test.q,
    }
    return pd.DataFrame(columns)
