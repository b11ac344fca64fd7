"""Which concepts may be called universal: those that pass every step, and for the others where they stop and why.

Stage `measure`, from the tables of stage `contrast`. The same is asked of the controls, as far as it can be: what
is called universal there is called so wrongly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from usae.common.numerics.significance import FALSE_DISCOVERY_RATE
from usae.common.types import Array
from usae.evidence.controls.names import ALL_UNTRAINED, ONE_UNTRAINED, RUN, SEED

SUPPORT = 20  # least co-fires
MATCHED = 0.7  # least cosine with the partner in another seed (Paulo and Belrose, arXiv 2501.16615)
BAR = 0.95  # quantile of the untrained controls that is to be passed
UNIVERSAL = "universal"


@dataclass(frozen=True)
class Step:
    """A condition. passed: (c,) bool; why: (c,) what to say of the concepts that fail it."""

    name: str
    passed: Array
    why: Sequence[str]


def untrained_bar(evidence: pd.DataFrame, models: int) -> float:
    """The lift below which 95 % of the concepts lie that co-fire significantly in an untrained control.

    The higher one of the two controls; minus infinity where nothing does.
    """
    bars = [-np.inf]
    for run in (ALL_UNTRAINED, ONE_UNTRAINED):
        rows = evidence[evidence["run"] == run]
        significant = _significant(rows) & (rows["models_alive"] == models)
        if significant.any():
            bars.append(float(_lift(rows[significant]).quantile(BAR, interpolation="higher")))
    return max(bars)


def common_steps(rows: pd.DataFrame, models: int, bar: float | None) -> list[Step]:
    """What is asked of the run and of its controls alike; `rows` of `control_concepts`, by concept.

    bar: lift that untrained networks reach; None where there are none, and the step is not asked.
    """
    records = list(rows.itertuples())
    steps = [
        Step("alive", (rows["models_alive"] > 0).to_numpy(), ["never fires"] * len(rows)),
        Step(
            "in all models",
            (rows["models_alive"] == models).to_numpy(),
            [f"fires in {row.models_alive} of {models} models" for row in records],
        ),
        Step(
            "significant",
            _significant(rows).to_numpy(),
            [
                f"co-fires on {row.cofires} tokens ({SUPPORT} asked), re-paired images give {row.null_mean:.3g} "
                f"(q {row.q:.2g})"
                for row in records
            ],
        ),
    ]
    if bar is not None:
        why = [f"lift {row.lift:.3g} over re-paired images; untrained networks reach {bar:.3g}" for row in records]
        steps.append(Step("beyond untrained", (_lift(rows) > bar).to_numpy(), why))
    return steps


def own_steps(stability: pd.DataFrame, ablation: pd.DataFrame | None) -> list[Step]:
    """What is asked of the run alone: found again from most starts, and of like effect in all models."""
    matches = stability[stability["run"].str.startswith(SEED)]
    steps = []
    if len(matches):
        cosines = matches.pivot(index="run", columns="concept_id", values="cosine").to_numpy()  # (seeds, concepts)
        matched, runs = 1 + (cosines > MATCHED).sum(axis=0), 1 + len(cosines)
        best = cosines.max(axis=0)
        why = [f"found in {n} of {runs} seeds; best match {b:.2f}" for n, b in zip(matched, best, strict=True)]
        steps.append(Step("stable", np.asarray(2 * matched > runs), why))
    if ablation is not None and len(ablation):
        rows = ablation[ablation["sae"] == RUN].sort_values("concept_id")
        why = [f"agreement of its effects {row.agreement:.2f} (q {row.q:.2g})" for row in rows.itertuples()]
        steps.append(Step("causal", rows["agrees"].fillna(False).to_numpy(dtype=bool), why))
    return steps


def verdicts(steps: Sequence[Step]) -> pd.DataFrame:
    """`stops_at`: the first step that a concept fails, `universal` where it fails none; `why`: null there."""
    stops = np.full(len(steps[0].passed), UNIVERSAL, dtype=object)
    why = np.full(len(stops), None, dtype=object)
    for step in reversed(steps):
        stops[~step.passed] = step.name
        why[~step.passed] = np.array(step.why, dtype=object)[~step.passed]
    return pd.DataFrame({"stops_at": stops, "why": why})


def counts(steps: Sequence[Step]) -> pd.DataFrame:
    """Rows of table `funnel`: how many concepts pass each step and all before it."""
    left = np.logical_and.accumulate([step.passed for step in steps]).sum(axis=1)
    columns = {"step": [step.name for step in steps], "concepts": left, "share": left / max(left[0], 1)}
    return pd.DataFrame(columns)


def _lift(rows: pd.DataFrame) -> "pd.Series[float]":
    """Over re-paired images; infinite where these never co-fire."""
    return rows["lift"].fillna(np.inf)


def _significant(rows: pd.DataFrame) -> "pd.Series[bool]":
    return (rows["q"] <= FALSE_DISCOVERY_RATE) & (rows["cofires"] >= SUPPORT)
