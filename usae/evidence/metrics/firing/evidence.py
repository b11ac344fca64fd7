"""One row per concept: do all models share it, how far do they agree, and is it alive in all of them?"""

import numpy as np
import pandas as pd

from usae.common.numerics.significance import significance
from usae.common.types import Array
from usae.evidence.metrics.firing.counts import FiringCounts, cofire_proportion_min, firing_entropy

SUPPORT = 20  # fires in each model, below which a concept is not tested: known without its co-fires


def evidence(firing: FiringCounts, permuted: Array) -> pd.DataFrame:
    """A row per concept: do all models co-fire more often than where each of them alone is re-paired?

    permuted (models, B, c): null `images` of all models, see `CofireNulls`.
    """
    fires = firing.fires
    null_test = significance(firing.cofires, permuted, supported(fires))
    agreement, chance = (cofire_proportion_min(both, fires) for both in (firing.cofires, null_test.mean))
    columns = {
        "concept_id": np.arange(firing.concepts),
        "models_alive": (fires > 0).sum(axis=0),
        "fires_least": fires.min(axis=0),
        "firing_entropy": firing_entropy(fires),
        "cofires": firing.cofires,
        "cofire_proportion_min": agreement,
        "null_mean": null_test.mean,
        "agreement_beyond_chance": agreement - chance,
        "lift": null_test.lift,
        "p": null_test.tail,
        "q": null_test.q,
    }
    return pd.DataFrame(columns)


def supported(fires: Array) -> Array:
    """(c,) bool: concepts that fire often enough in each model to be tested; `fires` (m, c)."""
    return np.asarray(fires.min(axis=0) >= SUPPORT)
