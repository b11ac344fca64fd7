"""The measures of one member: those of stage `contrast`, and what several models together and labels say of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from usae.activations.store import ActivationStore
from usae.common.numerics.numbers import rounded
from usae.common.params import MeasureParams
from usae.common.types import Array
from usae.evidence.metrics.contrast.measured import HeldOut, Measured
from usae.evidence.metrics.contrast.numbers import Counted
from usae.evidence.metrics.contrast.resampling import interval
from usae.evidence.metrics.funnel import Step, Thresholds, common_steps, passed
from usae.evidence.metrics.labels.single import ImageScores, LabelledImages, label_auc
from usae.evidence.metrics.measure.funnel_tables import counted
from usae.methods.comparison.members import Member
from usae.methods.comparison.together import r2_together
from usae.methods.runs.variants import RUN, START
from usae.sae.estimator import Concepts

SINGLE = "single"
MEASURES = {  # each with its value where one model is re-paired, if it has one
    "firing_entropy_median": None,
    "cofire_proportion_mean": "cofire_proportion_null_mean",
    "cofire_proportion_min_median": "cofire_proportion_min_null_median",
    "lift_median": "lift_null_median",
}
Row = dict[str, Any]


@dataclass(frozen=True)
class MemberTables:
    """rows: of table `methods`. concepts, funnel: of the tables of these names; None where there are no codes."""

    rows: list[Row]
    concepts: pd.DataFrame | None = None
    funnel: pd.DataFrame | None = None


@dataclass(frozen=True)
class Judge:
    """What every member is asked, on the same held-out images.

    stores: activations by model, those of untrained networks too. bar: agreement beyond chance that the universal
    SAE's controls reach. labelled: held-out images with labels, None where there are none.
    """

    stores: Mapping[str, ActivationStore]
    params: MeasureParams
    seed: int
    device: torch.device
    bar: float
    labelled: LabelledImages | None

    def judge(self, member: Member) -> MemberTables:
        """Everything that the member can be asked."""
        reading, concepts = member.reading, member.reading.concepts
        rows = [_row(measure, value) for measure, value in reading.numbers.items()]
        rows += _r2_rows(SINGLE, reading.r2) + _mean_rows(SINGLE, reading.r2)
        rows += _together_rows({("others", target): value for target, value in reading.others.items()})
        if concepts is None:
            return MemberTables(_named(member, rows))
        stores = {model: self.stores[model] for model in concepts.models}
        opened = HeldOut(concepts, stores, self.params, self.seed, self.device)
        scores = self._scores(concepts) if member.run in (RUN, START) else None
        measured = opened.measured(*([] if scores is None else [scores]))
        evidence = measured.evidence
        asked = Thresholds(self.params.agreement)
        steps = common_steps(evidence, len(concepts.models), self.bar, asked)
        agreement = evidence["cofire_proportion_min"].to_numpy()
        if not reading.r2:
            rows += _measured_r2(measured)
        rows += list(self._counts(measured, evidence, steps)) + _number_rows(measured)
        if member.run == RUN:
            rows += _together_rows(r2_together(concepts, stores))
        if scores is not None and self.labelled is not None:
            rows.append(_row("label_auc", label_auc(scores.scores, self.labelled.present)))
        return MemberTables(
            _named(member, rows), _owned(member, evidence), _owned(member, counted(agreement, steps))
        )

    def _counts(self, measured: Measured, evidence: pd.DataFrame, steps: Sequence[Step]) -> Iterator[Row]:
        """How many concepts are left after each step; of the last one also how that moves with the images."""
        chance = (evidence["cofire_proportion_min"] - evidence["agreement_beyond_chance"]).to_numpy(float)
        for last in range(1, len(steps) + 1):
            yield _row(steps[last - 1].name, int(passed(steps[:last]).sum()))
        others = passed([step for step in steps if step.name not in ("agreement", "beyond controls")])
        every = passed(steps)
        drawn = Counted(every, others, self.params.agreement, self.bar + chance).drawn(measured.draws.agreement)
        yield _row("shared", int(every.sum()), bounds=interval(int(every.sum()), drawn))

    def _scores(self, concepts: Concepts) -> ImageScores | None:
        if self.labelled is None:
            return None
        return ImageScores(len(concepts.models), self.labelled.images, concepts.concepts)


def _measured_r2(measured: Measured) -> list[Row]:
    table = measured.reconstruction
    r2 = {(str(row.source), str(row.target)): float(row.r2_channel) for row in table.itertuples()}  # type: ignore[arg-type]
    draws = {"r2_self_mean": measured.draws.r2_self, "r2_cross_mean": measured.draws.r2_cross}
    return _r2_rows(SINGLE, r2) + _mean_rows(SINGLE, r2, draws)


def _number_rows(measured: Measured) -> list[Row]:
    """Numbers of the codes, each with one model re-paired beside it."""
    numbers = measured.numbers()
    rows = [_row(name, numbers[name], null=numbers[null] if null else None) for name, null in MEASURES.items()]
    return [*rows, _row("l0", float(measured.firing.sparsity.mean()))]


def _r2_rows(mode: str, r2: Mapping[tuple[str, str], float]) -> list[Row]:
    return [_row("r2", value, mode=mode, source=s, target=t) for (s, t), value in r2.items()]


def _mean_rows(
    mode: str, r2: Mapping[tuple[str, str], float], draws: Mapping[str, Array] | None = None
) -> list[Row]:
    """Means over models of a matrix; without any where there are no such entries."""
    parts = {
        "r2_self_mean": [value for (source, target), value in r2.items() if source == target],
        "r2_cross_mean": [value for (source, target), value in r2.items() if source != target],
    }
    rows = []
    for name, values in parts.items():
        if values:
            mean = float(np.mean(values))
            rows.append(
                _row(name, rounded(mean), mode=mode, bounds=interval(mean, draws[name]) if draws else None)
            )
    return rows


def _together_rows(r2: Mapping[tuple[str, str], float]) -> list[Row]:
    rows = [_row("r2", value, mode=mode, target=target) for (mode, target), value in r2.items()]
    for wanted in dict.fromkeys(mode for mode, _ in r2):
        mean = float(np.mean([value for (mode, _), value in r2.items() if mode == wanted]))
        rows.append(_row("r2_mean", mean, mode=wanted))
    return rows


def _row(
    measure: str,
    value: float | None,
    *,
    mode: str | None = None,
    source: str | None = None,
    target: str | None = None,
    bounds: tuple[float, float] | None = None,
    null: float | None = None,
) -> Row:
    low, high = bounds or (None, None)
    return {
        "mode": mode,
        "source": source,
        "target": target,
        "measure": measure,
        "value": value,
        "low": low,
        "high": high,
        "null": null,
    }


def _named(member: Member, rows: list[Row]) -> list[Row]:
    """With the columns that say whose they are."""
    own = {"block": member.block, "method": member.method, "form": member.reading.form or None, "run": member.run}
    return [own | row for row in rows]


def _owned(member: Member, frame: pd.DataFrame) -> pd.DataFrame:
    """With the columns that say whose it is."""
    return frame.assign(method=member.method, form=member.reading.form or None, run=member.run)
