"""Which concepts may be called universal: those that pass every step, and for the others where they stop and why.

Stage `measure`, from the tables of stage `contrast`. The same is asked of the controls and of every SAE before its
first step, as far as it can be: what is called universal in a control is called so wrongly.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from usae.common.numerics.significance import FALSE_DISCOVERY_RATE
from usae.common.types import Array
from usae.evidence.controls.names import HALF, is_null
from usae.evidence.metrics.firing.evidence import SUPPORT

UNIVERSAL, UNASKED = "universal", "no control"  # of concepts that pass all steps; without controls among these
BEYOND_CONTROLS = "beyond controls"
SHARED_STEPS = ("alive", "in all models", "significant", "agreement", BEYOND_CONTROLS)
WITHOUT_CONTROLS = "passes every step that needs no control; none was trained in this quick run"


@dataclass(frozen=True)
class Thresholds:
    """What the steps ask for.

    agreement: smallest co-fire proportion over models. support: fires in each model. bar: quantile of the
    agreements beyond chance in all controls with nothing to share. matched: correlation with the partner in
    another SAE (half of the variance in common).
    """

    agreement: float
    support: int = SUPPORT
    bar: float = 0.95
    matched: float = 0.7


@dataclass(frozen=True)
class Step:
    """A condition. passed: (c,) bool; why: (c,) what to say of the concepts that fail it."""

    name: str
    passed: Array
    why: Sequence[str]


def control_bar(evidence: pd.DataFrame, models: int, quantile: float) -> float | None:
    """The agreement beyond chance that only the rest of the concepts exceed that are significant in controls whose
    models have nothing to share.

    Those of untrained networks share what pixels and architectures give, those of re-paired images what concepts
    of one number meet in by accident. Of all these controls together: each alone has few. Minus infinity where
    nothing is significant in any; None where there is no such control, as in a quick run. Not the lift: it is at
    most 1 over a concept's rate, a bar that no frequent concept could pass.
    """
    significant = (evidence["q"] <= FALSE_DISCOVERY_RATE) & (evidence["models_alive"] == models)
    nulls = evidence["run"].map(lambda run: is_null(str(run))) & ~evidence["start"].astype(bool)
    if not nulls.any():
        return None
    beyond = evidence.loc[significant & nulls, "agreement_beyond_chance"]
    return float(beyond.quantile(quantile, interpolation="higher")) if len(beyond) else -np.inf


def common_steps(rows: pd.DataFrame, models: int, bar: float | None, thresholds: Thresholds) -> list[Step]:
    """What is asked of every SAE alike; `rows` of `control_concepts`, by concept.

    bar: agreement beyond chance that controls reach; None where there are none, the step is not asked.
    """
    steps = [
        Step("alive", (rows["models_alive"] > 0).to_numpy(), ["never fires"] * len(rows)),
        Step("in all models", (rows["models_alive"] == models).to_numpy(), _each(rows, _alive, models)),
        Step("significant", _significant(rows, thresholds.support), _each(rows, _chance, thresholds.support)),
        Step(
            "agreement",
            (rows["cofire_proportion_min"] >= thresholds.agreement).to_numpy(),
            _each(rows, _agreement, thresholds.agreement),
        ),
    ]
    if bar is not None:
        beyond = (rows["agreement_beyond_chance"] > bar).to_numpy()
        steps.append(Step(BEYOND_CONTROLS, beyond, _each(rows, _beyond, bar)))
    return steps


def asked_steps(
    rows: pd.DataFrame, matches: pd.DataFrame | None, models: int, bar: float | None, thresholds: Thresholds
) -> list[Step]:
    """All steps that need no labels, of one SAE: `rows` of `control_concepts`, `matches` of `stability` (None:
    none).

    bar: minus infinity where no control reaches any, every concept then is beyond them; None: see `common_steps`.
    """
    steps = common_steps(rows.sort_values("concept_id"), models, bar, thresholds)
    return steps if matches is None else steps + found_again(matches, thresholds)


def passed(steps: Sequence[Step]) -> Array:
    """(c,) bool: the concepts that pass all of these steps."""
    return np.asarray(np.logical_and.reduce([step.passed for step in steps]))


def among(steps: Sequence[Step], concepts: slice) -> list[Step]:
    """The same steps of some concepts alone."""
    return [Step(step.name, step.passed[concepts], step.why[concepts]) for step in steps]


def found_again(stability: pd.DataFrame, thresholds: Thresholds) -> list[Step]:
    """Does the concept come back in both SAEs that saw only one half of the training images? None: no step.

    stability: rows of that table, of one SAE and its matches.
    """
    halves = stability[stability["against"].str.startswith(HALF)]
    if halves.empty:
        return []
    matches = halves.pivot(index="against", columns="concept_id", values=["correlation", "correlation_least"])
    mean, least = (matches[name].to_numpy(dtype=float) for name in ("correlation", "correlation_least"))
    back = comes_back(mean, least, thresholds.matched)  # (halves, concepts)
    why = [
        f"found again by {n} of {len(back)} SAEs of one half of the images each; correlations {', '.join(r)}"
        for n, r in zip(back.sum(axis=0), [[f"{value:.2f}" for value in column] for column in mean.T], strict=True)
    ]
    return [Step("stable", np.asarray(back.all(axis=0)), why)]


def comes_back(correlation: Array, least: Array, matched: float) -> Array:
    """Bool: the codes of a concept and its partner share half of their variance over the models (`correlation`,
    the mean), and a quarter in each of them (`least`); NaN, too few fires, does not.
    """
    return np.asarray((correlation > matched) & (least > round(matched - 0.2, 9)))


def verdicts(steps: Sequence[Step]) -> pd.DataFrame:
    """`stops_at`: the first step that a concept fails, `universal` where it fails none; `why`: null there.

    Where no control was trained none is universal: those that pass all other steps stop at `no control`.
    """
    controlled = any(step.name == BEYOND_CONTROLS for step in steps)
    stops = np.full(len(steps[0].passed), UNIVERSAL if controlled else UNASKED, dtype=object)
    why = np.full(len(stops), None if controlled else WITHOUT_CONTROLS, dtype=object)
    for step in reversed(steps):
        stops[~step.passed] = step.name
        why[~step.passed] = np.array(step.why, dtype=object)[~step.passed]
    return pd.DataFrame({"stops_at": stops, "why": why})


def counts(steps: Sequence[Step]) -> pd.DataFrame:
    """Rows of table `funnel`: how many concepts pass each step and all before it."""
    left = np.logical_and.accumulate([step.passed for step in steps]).sum(axis=1)
    columns = {"step": [step.name for step in steps], "concepts": left, "share": left / max(left[0], 1)}
    return pd.DataFrame(columns)


def all_levels(funnel: pd.DataFrame) -> pd.DataFrame:
    """The rows of table `funnel` that count the concepts of all levels together."""
    return funnel[funnel["level"].isna()]


def _significant(rows: pd.DataFrame, support: int) -> Array:
    """(c,) bool; with another support than that of the table, q is taken anew over the concepts that have it."""
    tested = (rows["fires_least"] >= support).to_numpy()
    if support == SUPPORT or not tested.any():
        return np.asarray(rows["q"] <= FALSE_DISCOVERY_RATE) & tested
    q = np.ones(len(rows))
    q[tested] = stats.false_discovery_control(rows["p"].to_numpy()[tested])
    return q <= FALSE_DISCOVERY_RATE


def _each(rows: pd.DataFrame, sentence: Callable[[Any, Any], str], threshold: float) -> list[str]:
    return [sentence(row, threshold) for row in rows.itertuples()]


def _alive(row: Any, models: int) -> str:
    return f"fires in {row.models_alive} of {models} models"


def _chance(row: Any, support: int) -> str:
    if row.fires_least < support:
        return f"fires on {row.fires_least} tokens in the model with the fewest ({support} asked)"
    return f"co-fires on {row.cofires} tokens; with one model re-paired on {row.null_mean:.3g} (q {row.q:.2g})"


def _agreement(row: Any, agreement: float) -> str:
    share = row.cofire_proportion_min
    return f"all models fire on {share:.1%} of the tokens of the busiest one ({agreement:.0%} asked)"


def _beyond(row: Any, bar: float) -> str:
    share = row.agreement_beyond_chance
    return f"agreement is {share:.1%} above that with one re-paired model; controls reach {bar:.1%}"
