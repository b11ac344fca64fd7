"""Are the concepts of the universal SAE found again from another start? (stage `contrast`)

Those of two seeds are matched one to one by the cosines of all models' dictionaries side by side (for one model:
Paulo and Belrose, arXiv 2501.16615), beside two random dictionaries of that size.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from usae.common.numerics.matching import matching, random_matching
from usae.common.numerics.significance import FALSE_DISCOVERY_RATE
from usae.common.types import Array
from usae.evidence.controls.names import RUN
from usae.evidence.metrics.dictionaries.consistency import GAUSSIAN, above, auc


def stability_frame(dictionaries: Mapping[str, Array], seed: int) -> pd.DataFrame:
    """Table `stability`: the run's concepts (c, sum of d) matched one to one with those of the other seeds."""
    own = dictionaries[RUN]
    matches = []
    for run, rows in dictionaries.items():
        if run != RUN:
            partner, cosine = matching(own, rows)
            matches.append(pd.DataFrame({"partner": partner, "cosine": cosine}).assign(run=run))
    floor = random_matching(own.shape[0], own.shape[1], seed)
    matches.append(pd.DataFrame({"partner": np.full(len(own), -1), "cosine": floor}).assign(run=GAUSSIAN))
    frame = pd.concat([match.rename_axis("concept_id").reset_index() for match in matches], ignore_index=True)
    return frame.assign(partner=frame["partner"].where(frame["partner"] >= 0).astype("Int32"))


def stability_numbers(stability: pd.DataFrame, concepts: pd.DataFrame) -> pd.DataFrame:
    """Rows of table `controls`: matched cosines, mean and shares above thresholds, beside random dictionaries.

    And their rank correlation with the lift, over the run's `concepts` that co-fire significantly.
    """
    lifts = concepts.loc[concepts["q"] <= FALSE_DISCOVERY_RATE].set_index("concept_id")["lift"]
    cosines = {run: rows["cosine"].to_numpy() for run, rows in stability.groupby("run", sort=False)}
    floor = _matched(cosines.pop(GAUSSIAN))
    rows = [
        {"run": run, "measure": name, "value": value, "null": floor.get(name)}
        for run, values in cosines.items()
        for name, value in {**_matched(values), "stability_lift_r": _rank_correlation(values, lifts)}.items()
    ]
    return pd.DataFrame(rows, columns=["run", "measure", "value", "null"])


def _matched(cosines: Array) -> dict[str, float]:
    shares = {f"stability_above_{threshold}": above(cosines, threshold) for threshold in (0.5, 0.7)}
    return {"stability_mean": auc(cosines), **shares}


def _rank_correlation(cosines: Array, lifts: "pd.Series[float]") -> float:
    return float(pd.Series(cosines).reindex(lifts.index).corr(lifts, method="spearman"))
