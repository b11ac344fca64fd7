"""Tables of stages `contrast` and `measure` as the page's panels read them (stage `report`)."""

import pandas as pd

from usae.evidence.controls.names import RUN
from usae.showing.names import MEASURES, run_name

COUNTS = ("shared", "universal")
FOUND_AGAIN = ("comes_back_share", "correlation_mean", "jaccard_mean", "cosine_mean")  # of one SAE in another


def funnel_readings(funnel: pd.DataFrame) -> pd.DataFrame:
    """The counts of one level alone under the run's name and the level's."""
    level = (", level " + funnel["level"].astype("Int8").astype("string")).fillna("")
    return funnel.assign(run=funnel["run"].map(run_name) + level)


def sensitivity_readings(sensitivity: pd.DataFrame) -> pd.DataFrame:
    """threshold, value, counted (shared, universal, each also of the start), concepts."""
    long = sensitivity.melt(["threshold", "value", "start"], list(COUNTS), "counted", "concepts")
    before = long["start"].map({True: ", before the first step", False: ""})
    return long.assign(counted=long["counted"].map(MEASURES) + before)


def found_again_readings(controls: pd.DataFrame) -> pd.DataFrame:
    """The rows that say what comes back in another SAE."""
    return controls[_matched(controls)]


def training_readings(controls: pd.DataFrame) -> pd.DataFrame:
    """The run's rows, counts first."""
    return _counts_first(controls[(controls["run"] == RUN) & ~_matched(controls)])


def control_readings(controls: pd.DataFrame) -> pd.DataFrame:
    """run, measure, reading (value, null or start), number; of all rows but those of `found_again_readings`."""
    rows = _counts_first(controls[~_matched(controls)])
    long = rows.melt(["run", "measure"], ["value", "null", "start"], "reading", "number", ignore_index=False)
    return long.dropna(subset="number").sort_index(kind="stable")


def without_empty(frame: pd.DataFrame) -> pd.DataFrame:
    """Without the columns that hold nothing."""
    return frame.dropna(axis="columns", how="all")


def _counts_first(controls: pd.DataFrame) -> pd.DataFrame:
    return controls.sort_values(
        "measure", key=lambda measure: ~measure.isin(COUNTS), kind="stable", ignore_index=True
    )


def _matched(controls: pd.DataFrame) -> pd.Series:
    return controls["measure"].str.startswith(FOUND_AGAIN)
