"""Table `funnel`, and where each concept of the run stops (stage `measure`)."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from usae.common.numerics.numbers import Numbers, rounded
from usae.common.tables import no_rows, read_table
from usae.evidence.controls.names import RUN
from usae.evidence.metrics.contrast.tables import CONTROL_CONCEPTS, STABILITY
from usae.evidence.metrics.funnel import common_steps, counts, own_steps, untrained_bar, verdicts
from usae.evidence.metrics.measure.tables import FUNNEL


@dataclass(frozen=True)
class Funnel:
    """verdicts: `stops_at` and `why` of each concept of the run. counts: table `funnel`. evidence: what they are
    made of, table `control_concepts`."""

    verdicts: pd.DataFrame
    counts: pd.DataFrame
    evidence: pd.DataFrame

    @classmethod
    def load(cls, reports: Path, models: int) -> "Funnel":
        """From the tables `control_concepts`, `stability` and, where there is one, `ablation`.

        Raises:
            UserError: one of the first two is missing.
        """
        ablation = reports / "ablation.parquet"
        causal = read_table(ablation) if ablation.is_file() else None
        evidence, stability = (
            read_table(reports / f"{table.name}.parquet") for table in (CONTROL_CONCEPTS, STABILITY)
        )
        return cls.of(evidence, stability, causal, models)

    @classmethod
    def none(cls, concepts: int) -> "Funnel":
        """Nothing was put to the test."""
        verdicts = pd.DataFrame({"stops_at": [None] * concepts, "why": [None] * concepts}, dtype=object)
        return cls(verdicts, no_rows(FUNNEL), no_rows(CONTROL_CONCEPTS))

    @classmethod
    def of(
        cls, evidence: pd.DataFrame, stability: pd.DataFrame, ablation: pd.DataFrame | None, models: int
    ) -> "Funnel":
        """From these tables; the last two steps are asked of the run only, and `ablation` may be missing."""
        bar = untrained_bar(evidence, models)
        judged = {}
        for name, rows in evidence.groupby("run", sort=False):
            steps = common_steps(rows.sort_values("concept_id"), models, bar)
            judged[name] = steps + (own_steps(stability, ablation) if name == RUN else [])
        frames = [counts(steps).assign(run=run) for run, steps in judged.items()]
        return cls(verdicts(judged[RUN]), pd.concat(frames, ignore_index=True), evidence)

    @property
    def numbers(self) -> Numbers:
        """How many concepts pass everything, and their share of the alive ones, here and in the controls."""
        numbers: Numbers = {}
        for run, rows in self.counts.groupby("run", sort=False):
            last = rows.iloc[-1]
            if run == RUN:
                numbers["universal"] = int(last["concepts"])
            numbers["universal_share" if run == RUN else f"universal_share/{run}"] = rounded(float(last["share"]))
        return numbers
