"""Rows of table `controls`: every measure after training, before it, and what training adds (stage `contrast`)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from usae.common.types import Array
from usae.evidence.controls.names import RUN, TWIN, beside_controls
from usae.evidence.metrics.contrast.measured import Measured
from usae.evidence.metrics.contrast.resampling import Draws, interval
from usae.evidence.metrics.funnel import (
    BEYOND_CONTROLS,
    SHARED_STEPS,
    Thresholds,
    asked_steps,
    comes_back,
    control_bar,
    passed,
)

MEASURES = {  # each with its value where one model is re-paired, if it has one
    "r2_self_mean": None,
    "r2_cross_mean": None,
    "alive": None,
    "alive_in_all_models": None,
    "firing_entropy_median": None,
    "firing_entropy_high_share": None,
    "cofire_proportion_mean": "cofire_proportion_null_mean",
    "cofire_proportion_min_median": "cofire_proportion_min_null_median",
    "lift_median": "lift_null_median",
    "importance_r": "importance_null_r",
    "significant_share": None,
}
SHARED, UNIVERSAL = "shared", "universal"
AGREED = "agreed"  # in place of `shared` where no control was trained
RESAMPLED = ("agreement", BEYOND_CONTROLS)  # steps that a resample of the images asks anew
ADDED = ["adds", "adds_low", "adds_high"]
LESS = ["run_less", "run_less_low", "run_less_high"]
COLUMNS = ["run", "measure", "value", "null", "start", *ADDED]
R2 = {"r2_self_mean": "r2_self", "r2_cross_mean": "r2_cross"}  # measure -> its resamples in `Draws`


@dataclass(frozen=True)
class Counted:
    """Concepts of one SAE that a count takes, (c,). passed: all its steps. others: all of them but RESAMPLED.

    least: the agreement that is asked for. bar: the agreement above which a concept is beyond the controls: what
    one re-paired model gives (held where it is measured), and theirs beyond that.
    """

    passed: Array
    others: Array
    least: float
    bar: Array

    def drawn(self, agreement: Array) -> Array:
        """(resamples,) counts, where the agreements are those, (resamples, c)."""
        return np.asarray((self.others & (agreement >= self.least) & (agreement > self.bar)).sum(axis=1))


def control_numbers(
    measured: Mapping[tuple[bool, str], Measured],
    concepts: pd.DataFrame,
    stability: pd.DataFrame,
    models: int,
    asked: Thresholds,
) -> pd.DataFrame:
    """Rows of every run; `concepts` and `stability`: tables `control_concepts` and `stability`."""
    bar = control_bar(concepts, models, asked.bar)
    rows = []
    for run in dict.fromkeys(run for _, run in measured):
        counts = {start: counted(concepts, stability, run, start, models, bar, asked) for start in (False, True)}
        rows += _rows(run, measured[False, run], measured[True, run], counts)
    draws = {run: after.draws for (start, run), after in measured.items() if not start}
    return run_less(pd.DataFrame(rows, columns=COLUMNS), draws)


def run_less(rows: pd.DataFrame, draws: Mapping[str, Draws]) -> pd.DataFrame:
    """`rows` with columns LESS: R2 of the run less that of each control, its interval on the same resamples.

    draws: of every SAE after training; NaN for other measures, and for the run itself.
    """
    values = rows.set_index(["run", "measure"])["value"]
    less = {}
    for name, resampled in R2.items():
        for run in draws.keys() - {RUN}:
            drawn = getattr(draws[RUN], resampled) - getattr(draws[run], resampled)
            difference = float(values[RUN, name] - values[run, name])
            less[run, name] = difference, *interval(difference, drawn)
    cells = [less.get(key, (np.nan,) * len(LESS)) for key in values.index]
    return rows.join(pd.DataFrame(cells, columns=LESS, index=rows.index, dtype=float))


def stability_numbers(stability: pd.DataFrame, asked: Thresholds) -> pd.DataFrame:
    """Rows of table `controls`, of what comes back: of the run's concepts (its twin's, where there is one) in
    the SAE `run`, or in the halves of each other's.
    """
    rows, ours = [], beside_controls(set(stability["run"]))
    for (run, against), matches in stability.groupby(["run", "against"], sort=False):
        after, before = (found_again(matches[matches["start"] == start], asked.matched) for start in (False, True))
        suffix = "" if run == ours else f"_in_{against}"
        rows += [
            {"run": against if run == ours else run, "measure": f"{name}{suffix}", "value": value, "null": null,
             "start": before[name][0], "adds": value - before[name][0]}
            for name, (value, null) in after.items()
        ]  # fmt: skip
    return pd.DataFrame(rows, columns=[*COLUMNS, *LESS])


def found_again(matches: pd.DataFrame, matched: float) -> dict[str, tuple[float, float]]:
    """Of rows of table `stability`: measure -> of the partners, and of other concepts' partners (or NaN)."""
    judged = matches[matches["correlation"].notna()]
    back = comes_back(judged["correlation"].to_numpy(), judged["correlation_least"].to_numpy(), matched)
    other = float((judged["correlation_other"] > matched).mean()) if len(judged) else np.nan
    return {
        "comes_back_share": (float(back.mean()) if len(judged) else np.nan, other),
        "correlation_mean": (float(judged["correlation"].mean()), float(judged["correlation_other"].mean())),
        "jaccard_mean": (float(judged["jaccard"].mean()), np.nan),
        "cosine_mean": (float(judged["cosine"].mean()), np.nan),
    }


def counted(
    concepts: pd.DataFrame,
    stability: pd.DataFrame,
    run: str,
    start: bool,
    models: int,
    bar: float | None,
    asked: Thresholds,
) -> dict[str, Counted]:
    """By measure: which concepts of table `control_concepts` are counted, of one SAE."""
    rows = concepts[(concepts["run"] == run) & (concepts["start"] == start)].sort_values("concept_id")
    matches = stability[(stability["run"] == run) & (stability["start"] == start)] if run in (RUN, TWIN) else None
    steps = asked_steps(rows, matches, models, bar, asked)
    common = [step for step in steps if step.name in SHARED_STEPS]
    chance = (rows["cofire_proportion_min"] - rows["agreement_beyond_chance"]).to_numpy(float)
    return {
        name: Counted(
            passed(own),
            passed([step for step in own if step.name not in RESAMPLED]),
            asked.agreement,
            (-np.inf if bar is None else bar) + chance,
        )
        for name, own in ((AGREED if bar is None else SHARED, common), (UNIVERSAL, steps))
        if name != UNIVERSAL or len(steps) > len(common)
    }


def _rows(
    run: str,
    after: Measured,
    before: Measured,
    counts: Mapping[bool, Mapping[str, Counted]],
) -> list[dict[str, object]]:
    numbers, starts = after.numbers(), before.numbers()
    draws = {
        name: _drawn(after.draws, name, counts[False]) - _drawn(before.draws, name, counts[True])
        for name in ("r2_self_mean", "r2_cross_mean", "cofire_proportion_min_median", *counts[False])
    }
    values = {name: (numbers.get(name), starts.get(name)) for name in MEASURES}
    values |= {
        name: (int(counts[False][name].passed.sum()), int(counts[True][name].passed.sum()))
        for name in counts[False]
    }
    rows: list[dict[str, object]] = []
    for name, (value, start) in values.items():
        null = MEASURES.get(name)
        adds = None if value is None or start is None else value - start
        low, high = (None, None) if adds is None or name not in draws else interval(adds, draws[name])
        cells = run, name, value, numbers[null] if null else None, start, adds, low, high
        rows.append(dict(zip(COLUMNS, cells, strict=True)))
    return rows


def _drawn(draws: Draws, name: str, counts: Mapping[str, Counted]) -> Array:
    """(resamples,) of one measure."""
    if name == "cofire_proportion_min_median":
        return np.asarray(np.nanmedian(draws.agreement, axis=1))
    if name in counts:
        return counts[name].drawn(draws.agreement)
    return draws.r2_self if name == "r2_self_mean" else draws.r2_cross
