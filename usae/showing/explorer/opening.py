"""What the page opens with: whether the run may be read and why not, then the funnel, step by step (stage
`report`)."""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from usae.evidence.controls.names import RUN
from usae.evidence.metrics.funnel import all_levels
from usae.evidence.verdict.levels import READABLE, WORDS, is_readable, level_of, reasons
from usae.showing.explorer.wording import number
from usae.showing.figures.funnel import most_by_accident
from usae.showing.figures.theme import MISSING
from usae.showing.results.reports import Reports

MEANINGS = {  # step of the funnel -> what it asks
    "alive": "fires on a held-out token",
    "in all models": "in each of them",
    "significant": "on 20 tokens or more in each, and together more often than with any one model re-paired",
    "agreement": "all models fire on the share `measure.agreement` of the fires of each, or more",
    "beyond controls": "agreement beyond that of controls with nothing to share: shared by all models",
    "stable": "found again in both SAEs that saw one half of the training images: universal",
}


MET = "met"


@dataclass(frozen=True)
class Judgement:
    """The verdict as it is shown. style: a class of the style sheet. rows: every question, its answer and bar."""

    word: str
    style: str
    reasons: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, str, str, str], ...]
    readable: bool

    @property
    def line(self) -> str:
        """'Readable with caution: 2 of 12 bars are missed', for pages that only link to it."""
        missed = sum(level != MET for _, level, _, _ in self.rows)
        return f"{self.word}: {missed} of {len(self.rows)} bars are missed" if missed else self.word


@dataclass(frozen=True)
class StepRow:
    """A step of the funnel. width: share of the concepts alive, 0 to 1. hollow: no control was asked."""

    name: str
    meaning: str
    width: float
    concepts: str
    start: str
    accidents: str
    hollow: bool


def judgement(verdict: pd.DataFrame) -> Judgement:
    """From table `verdict`; what nobody asked is one reason."""
    if verdict.empty:
        return Judgement(
            "No verdict", "no-verdict", (("Nobody judged this run", "Run `dvc repro measure`"),), (), True
        )
    level, missed = level_of(verdict), reasons(verdict)
    asked = missed["asked"].astype(bool)
    said = [*zip(missed.loc[asked, "reason"], missed.loc[asked, "advice"], strict=True), *_unasked(missed[~asked])]
    answers = verdict["level"].replace(READABLE, MET)
    rows = zip(verdict["question"], answers, verdict["reason"], _numbers(verdict), strict=True)
    return Judgement(WORDS[level], level.replace(" ", "-"), tuple(said), tuple(rows), is_readable(verdict))


def step_rows(reports: Reports) -> list[StepRow]:
    """The funnel of the run; none where it was not asked, or where the run is not readable."""
    funnel = reports["funnel"]
    if funnel.empty or not is_readable(reports["verdict"]):
        return []
    whole = all_levels(funnel)
    own = whole[whole["run"] == RUN]
    run, start = (
        own[own["start"].astype(bool) == before].set_index("step")["concepts"] for before in (False, True)
    )
    accidents = most_by_accident(funnel)
    return [
        StepRow(
            step,
            MEANINGS.get(step, ""),
            float(count) / max(float(run.iloc[0]), 1.0),
            number(count),
            number(start[step]) if step in start else MISSING,
            f"up to {number(accidents[step])}" if step in accidents else "not asked",
            step not in accidents,
        )
        for step, count in zip(map(str, run.index), run, strict=True)
    ]


def _unasked(missed: pd.DataFrame) -> Iterable[tuple[str, str]]:
    if missed.empty:
        return []
    what = [reason.removeprefix("Not asked: ") for reason in missed["reason"]]
    return [(f"Not asked: {'; '.join(what)}", ". ".join(dict.fromkeys(missed["advice"])))]


def _numbers(verdict: pd.DataFrame) -> list[str]:
    """'0.88, bar 0.5' of each question; a value that is close to its bar needs a third digit."""
    pairs = zip(verdict["value"].astype(float), verdict["bar"].astype(float), strict=True)
    return [
        f"{number(value) if abs(value) >= 100 else f'{value:.3g}'}, bar {bar:,g}" if value == value else MISSING
        for value, bar in pairs
    ]
