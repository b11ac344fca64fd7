"""Enough training, enough tokens, and more shared concepts than the start and the controls have?"""

import math

import pandas as pd

from usae.evidence.controls.names import RUN, is_null
from usae.evidence.verdict.answers import Answer, Evidence, answered, share_text, unasked, worse
from usae.evidence.verdict.bars import (
    FALSE_PLANTED,
    FALSE_SHARE,
    FEW_FIRES,
    FOUND_AGAIN,
    LATE_FALL,
    NO_FIRES,
    SAME_COUNT,
)
from usae.evidence.verdict.levels import CAUTION, UNREADABLE
from usae.evidence.verdict.reconstructions import CONTROLS

TENTH = 10  # the loss is a mean over so many parts of the steps


def loss(evidence: Evidence) -> Answer:
    """How much of the fall of the loss came late; at the end of a cosine it is flat whatever was left to learn."""
    question, steps = "loss", evidence["training"]
    if steps.empty:
        return unasked(question, "whether the loss had levelled off", "Run `dvc repro train`")
    first, half, last = _losses(steps["loss"].astype(float))
    if not last < first:
        reason = f"The loss did not fall: {first:.3g} in the first tenth of the steps, {last:.3g} in the last"
        return answered(question, UNREADABLE, (math.nan, LATE_FALL), reason, "Lower `train.learning_rate`")
    late = (half - last) / (first - last)
    return answered(
        question,
        worse(late > LATE_FALL, CAUTION),
        (late, LATE_FALL),
        f"{share_text(min(max(late, 0), 1))} of the fall of the loss came in the second half of the "
        f"{len(steps):,} steps (at most {share_text(LATE_FALL)} asked)",
        "Raise `train.epochs`",
    )


def tokens(evidence: Evidence) -> Answer:
    """On how many held-out tokens of a model a concept fires, on average over all of them."""
    fires = float(evidence["concepts"]["fires"].mean()) / max(len(evidence.manifests), 1)
    level = UNREADABLE if fires < NO_FIRES else worse(fires < FEW_FIRES, CAUTION)
    reason = f"A concept fires on {fires:,.0f} held-out tokens of a model on average ({FEW_FIRES} asked)"
    advice = "Raise `images.val`, or lower `train.dictionary`"
    return answered("held-out tokens", level, (fires, FEW_FIRES), reason, advice)


def start(evidence: Evidence) -> Answer:
    """Shared concepts after training less those before the first step: what is no more was not learnt."""
    question = "the start"
    adds, low, high = (evidence.measured(RUN, "shared", name) for name in ("adds", "adds_low", "adds_high"))
    if math.isnan(adds):
        return unasked(question, "how many concepts are shared before the first step", CONTROLS)
    interval = "" if math.isnan(low) else f", 95 % interval {low:.0f} to {high:.0f}"
    before, after = evidence.shared(start=True), evidence.shared()
    return answered(
        question,
        worse(not adds > 0 or low <= 0, CAUTION),
        (adds, 0),
        f"{before:,.0f} concepts are shared before the first step, {after:,.0f} after training (difference "
        f"{adds:.0f}{interval}; more than 0 asked)",
        "Raise `train.epochs`; do not say that training made these concepts shared",
    )


def controls(evidence: Evidence) -> Answer:
    """Shared concepts of the worst control whose models have nothing to share, beside the run's."""
    question, nulls, run = "controls", _nulls(evidence["controls"]), evidence.shared()
    if nulls.empty or math.isnan(run):
        return unasked(question, "how many concepts pass where there is nothing to share", CONTROLS)
    most = float(nulls.max())
    share = most / run if run else float(most > 0)
    return answered(
        question,
        UNREADABLE if share >= SAME_COUNT else worse(share > FALSE_SHARE, CAUTION),
        (share, FALSE_SHARE),
        f"Where there is nothing to share, up to {most:,.0f} concepts pass for shared (`{nulls.idxmax()}`), in "
        f"the run {run:,.0f} (at most {share_text(FALSE_SHARE)} of these asked)",
        "Raise `train.epochs` or `measure.agreement`",
    )


def halves(evidence: Evidence) -> Answer:
    """Of the shared concepts, those that two SAEs find again that saw one half of the training images each."""
    question, run, again = "other images", evidence.shared(), evidence.measured(RUN, "universal")
    if math.isnan(again + run):
        return unasked(question, "whether shared concepts come back on other training images", CONTROLS)
    share = again / run if run else math.nan
    return answered(
        question,
        worse(share < FOUND_AGAIN, CAUTION),
        (share, FOUND_AGAIN),
        f"{again:,.0f} of {run:,.0f} shared concepts come back in both halves of the training images "
        f"({share_text(FOUND_AGAIN)} asked)",
        "Raise `images.train`, or lower `train.dictionary`: coarser concepts come back more often",
    )


def planted(evidence: Evidence) -> Answer:
    """Of concepts that are known not to be shared, those that the funnel calls universal."""
    question = "planted concepts"
    wrong, right = (_called_universal(evidence["planted"], kind) for kind in ("others", "shared"))
    if wrong is None or right is None:
        asked = "whether this recipe finds planted concepts, and the funnel calls none falsely shared"
        return unasked(question, asked, "Run `dvc repro` with `evidence: full`")
    advice = "See table planted: is its recipe long enough (`planted.epochs`, `planted.learning_rate`)?"
    if math.isnan(wrong + right):
        reason = "In the planted worlds no concept was found that the funnel could be judged by"
        return answered(question, CAUTION, (math.nan, FALSE_PLANTED), reason, advice)
    return answered(
        question,
        worse(wrong > FALSE_PLANTED or not right > 0, CAUTION),
        (wrong, FALSE_PLANTED),
        f"Of planted concepts that are not shared the funnel calls {share_text(wrong)} universal (at most "
        f"{share_text(FALSE_PLANTED)} asked), of those that are {share_text(right)}",
        advice,
    )


def _losses(values: "pd.Series[float]") -> tuple[float, ...]:
    """Means over a tenth of the steps: the first, the one before the middle, the last."""
    part = max(1, len(values) // TENTH)
    ends = part, max(part, len(values) // 2), len(values)
    return tuple(float(values.iloc[end - part : end].mean()) for end in ends)


def _nulls(table: pd.DataFrame) -> "pd.Series[float]":
    """Shared concepts by control with nothing to share."""
    if table.empty:
        return pd.Series(dtype=float)
    shared = table[table["measure"] == "shared"].set_index("run")["value"].astype(float)
    return shared[[is_null(str(run)) for run in shared.index]].dropna()


def _called_universal(table: pd.DataFrame, kind: str) -> float | None:
    """By the funnel, of planted concepts of a kind, in the worlds that were trained on: NaN where none was found,
    None where nobody asked.
    """
    if table.empty:
        return None
    asked = (table["setting"] == "matched") & (table["quantity"] == "called universal") & (table["by"] == "funnel")
    values = table.loc[asked & (table["kind"] == kind), "value"]
    return float(values.iloc[0]) if len(values) else None
