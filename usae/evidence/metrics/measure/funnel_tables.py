"""Table `funnel`, and where each concept of the run stops (stage `measure`)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from usae.common.numerics.numbers import Numbers, rounded
from usae.common.tables import no_rows, read_table
from usae.common.types import Array
from usae.evidence.controls.names import RUN, TWIN
from usae.evidence.metrics.contrast.tables import CONTROL_CONCEPTS, STABILITY
from usae.evidence.metrics.funnel import (
    BEYOND_CONTROLS,
    SHARED_STEPS,
    Step,
    Thresholds,
    all_levels,
    among,
    asked_steps,
    control_bar,
    counts,
    passed,
    verdicts,
)
from usae.evidence.metrics.measure.tables import FUNNEL

AGREEMENT = "cofire_proportion_min"
QUANTILES = {"agreement_low": 0.1, "agreement_median": 0.5, "agreement_high": 0.9}


@dataclass(frozen=True)
class Funnel:
    """verdicts: `stops_at` and `why` of each concept of the run. counts: table `funnel`. evidence, stability: what
    they are made of, tables `control_concepts` and `stability`."""

    verdicts: pd.DataFrame
    counts: pd.DataFrame
    evidence: pd.DataFrame
    stability: pd.DataFrame

    @classmethod
    def load(cls, reports: Path, models: int, agreement: float, ends: Sequence[int] = ()) -> "Funnel":
        """From the tables `control_concepts` and `stability`; ends: concepts of the run's levels up to each one.

        Raises:
            UserError: one of them is missing.
        """
        evidence, stability = (
            read_table(reports / f"{table.name}.parquet") for table in (CONTROL_CONCEPTS, STABILITY)
        )
        return cls.of(evidence, stability, models, agreement, ends)

    @classmethod
    def none(cls, concepts: int) -> "Funnel":
        """Nothing was put to the test."""
        verdicts = pd.DataFrame({"stops_at": [None] * concepts, "why": [None] * concepts}, dtype=object)
        return cls(verdicts, no_rows(FUNNEL), no_rows(CONTROL_CONCEPTS), no_rows(STABILITY))

    @classmethod
    def of(
        cls,
        evidence: pd.DataFrame,
        stability: pd.DataFrame,
        models: int,
        agreement: float,
        ends: Sequence[int] = (),
    ) -> "Funnel":
        """From these tables. Only of the run and its twin it is known what comes back, and the run's levels
        alone are counted.
        """
        asked = Thresholds(agreement)
        bar = control_bar(evidence, models, asked.bar)
        judged, frames = {}, []
        for key, rows in evidence.groupby(["run", "start"], sort=False):
            run, start = str(key[0]), bool(key[1])
            matches = stability[(stability["run"] == run) & (stability["start"] == start)]
            ordered = rows.sort_values("concept_id")
            judged[run, start] = asked_steps(ordered, matches if run in (RUN, TWIN) else None, models, bar, asked)
            counted = _counted(ordered[AGREEMENT].to_numpy(), judged[run, start], ends if run == RUN else ())
            frames += [frame.assign(run=run, start=start) for frame in counted]
        whole = pd.concat(frames, ignore_index=True)
        return cls(verdicts(judged[RUN, False]), whole, evidence, stability)

    @property
    def numbers(self) -> Numbers:
        """How many concepts all models share, how many come back, and the shares of the alive ones that do, here,
        in the controls, and before the first step of each; without controls, in how many all models agree.
        """
        numbers: Numbers = {}
        for (run, start), rows in all_levels(self.counts).groupby(["run", "start"], sort=False):
            suffix = ("" if run == RUN else f"/{run}") + ("/start" if start else "")
            if BEYOND_CONTROLS not in set(rows["step"]):
                numbers[f"agreed{suffix}"] = int(rows.iloc[-1]["concepts"])
                continue
            shared = rows[rows["step"].isin(SHARED_STEPS)].iloc[-1]
            numbers[f"shared{suffix}"] = int(shared["concepts"])
            numbers[f"shared_share{suffix}"] = rounded(float(shared["share"]))
            if run in (RUN, TWIN):
                numbers[f"universal{suffix}"] = int(rows.iloc[-1]["concepts"])
                numbers[f"universal_share{suffix}"] = rounded(float(rows.iloc[-1]["share"]))
                numbers[f"universal_agreement_median{suffix}"] = rounded(float(rows.iloc[-1]["agreement_median"]))
        return numbers


def _counted(shares: Array, steps: list[Step], ends: Sequence[int]) -> Iterator[pd.DataFrame]:
    """Rows of table `funnel` of one SAE: of all levels together, then of each where there is more than one.

    shares: (c,) smallest co-fire proportions.
    """
    own = [slice(*edge) for edge in pairwise((0, *ends))] if len(ends) > 1 else []
    for level, concepts in [(None, slice(None)), *enumerate(own, 1)]:
        asked = among(steps, concepts)
        levels = pd.Series([level] * len(steps), dtype="Int8", name="level")
        yield pd.concat([levels, counted(shares[concepts], asked)], axis=1)


def counted(shares: Array, steps: list[Step]) -> pd.DataFrame:
    """Concepts that pass each step and all before it, and how far models agree on them: rows of table `funnel`.

    shares: (c,) smallest co-fire proportions.
    """
    return pd.concat([counts(steps), _agreement(shares, steps)], axis=1)


def _agreement(shares: Array, steps: list[Step]) -> pd.DataFrame:
    """Quantiles of the smallest co-fire proportion of the concepts that pass each step and all before it."""
    rows = []
    for last in range(1, len(steps) + 1):
        left = shares[passed(steps[:last])]
        known = left[~np.isnan(left)]
        rows.append({name: np.quantile(known, q) if len(known) else np.nan for name, q in QUANTILES.items()})
    return pd.DataFrame(rows)
