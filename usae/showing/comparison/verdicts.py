"""Is a method better than the universal SAE? Asked of two measures by rules that were fixed before the numbers.

A method is *better* on a measure where the difference of the means exceeds the range of the seeds of both, has one
sign in all pairs of seeds, and the intervals over images do not meet (stricter than that of the difference). It
*wins* where it is better on one measure, worse on none, and so at the same compute: against the universal SAE that
reads every token from every model, where it computes more than the reference. *Trade*: better on one, worse on
another. *Tie*: neither. A third measure, planted concepts, is not in table `methods`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from usae.showing.results.compared import BEFORE, BOUNDS, END, PUBLISHED, REPAIRED, Compared, ComparedMethod

LEAST_SEEDS = 3
MATCHED = "usae_all"  # the reference at the compute of methods that read every token from every model
CROSS, SHARED = "r2_cross_mean", "shared"
COMPUTE = ("encoder_updates", "gflop")
BETTER, WINS, TRADE, TIE = "better", "wins", "trade", "tie"
MEASURE_NAMES = {CROSS: "cross R²", SHARED: "shared concepts"}


@dataclass(frozen=True)
class Outcome:
    """One measure of one method. seeds: its value from each start; low, high: of the run over images, or NaN."""

    seeds: tuple[float, ...]
    low: float
    high: float

    @property
    def spread(self) -> float:
        """The range of the seeds."""
        return max(self.seeds) - min(self.seeds)


@dataclass(frozen=True)
class Verdict:
    """word: one of the four, empty where nothing was judged; why: the measures or the reason."""

    word: str
    why: str

    @property
    def text(self) -> str:
        """'wins: cross R²', 'one seed: not judged'."""
        return f"{self.word}: {self.why}" if self.word and self.why else self.word or self.why


def better(one: Outcome, other: Outcome) -> bool:
    """Whether `one` is higher by all three rules."""
    difference = float(np.mean(one.seeds) - np.mean(other.seeds))
    beyond_seeds = difference > max(one.spread, other.spread) and min(one.seeds) > max(other.seeds)
    return beyond_seeds and one.low > other.high


def sign(one: Outcome, other: Outcome) -> int:
    """1: `one` is better; -1: `other` is; 0: neither."""
    return int(better(one, other)) - int(better(other, one))


def word(signs: Sequence[int], matched: Sequence[int] | None) -> str:
    """The verdict of a method with these signs against the reference, and against it at the same compute.

    matched: None where there is no such run, so that being better is all that can be said.
    """
    if 1 in signs and -1 in signs:
        return TRADE
    if 1 in signs:
        return WINS if matched is not None and 1 in matched and -1 not in matched else BETTER
    return f"usae {WINS}" if -1 in signs else TIE


def outcome(compared: Compared, method: ComparedMethod, measure: str) -> Outcome:
    """A measure as it is judged; shared concepts are those beyond the method's own floors, NaN where one of the
    two was not asked.
    """
    estimate = compared.estimate(method, measure, compared.beside_controls(method))
    floors = [compared.value(method, SHARED, run) for run in (BEFORE, REPAIRED)]
    floor = float(np.max(floors)) if measure == SHARED else 0.0
    seeds = tuple(value - floor for value in compared.seeds(method, measure))
    return Outcome(seeds, estimate.low - floor, estimate.high - floor)


def verdict(compared: Compared, method: ComparedMethod) -> Verdict:
    """Of one method against the universal SAE of the run."""
    reference = compared.reference
    if reference is None or method == reference or method.block == BOUNDS:
        return Verdict("", "")
    if reason := _not_judged(compared, method, reference):
        return Verdict("", f"{reason}: not judged")
    signs = _signs(compared, method, reference)
    return Verdict(word(signs, _matched(compared, method, reference, signs)), _said(signs))


def beyond_start(compared: Compared, method: ComparedMethod) -> bool | None:
    """Whether the method shares more concepts than before its first step; None where that is not known."""
    after, before = (compared.value(method, SHARED, run) for run in (END, BEFORE))
    return None if np.isnan(after - before) else after > before


def _said(signs: Sequence[int]) -> str:
    """'cross R²', 'cross R² less, shared concepts more'."""
    named = zip(MEASURE_NAMES.values(), signs, strict=True)
    mixed = 1 in signs and -1 in signs
    parts = [f"{name}{(' more' if each > 0 else ' less') if mixed else ''}" for name, each in named if each]
    return ", ".join(parts)


def _not_judged(compared: Compared, method: ComparedMethod, reference: ComparedMethod) -> str:
    """Why not, or nothing."""
    if method.block == PUBLISHED:
        return "another recipe"
    steps = [compared.value(each, "steps") for each in (method, reference)]
    if np.isfinite(steps).all() and steps[0] != steps[1]:
        return "another number of steps"
    measures = [outcome(compared, each, name) for each in (method, reference) for name in MEASURE_NAMES]
    return _missing(measures)


def _missing(measures: Sequence[Outcome]) -> str:
    """What the rules need and these measures lack."""
    seeds = min(len(each.seeds) for each in measures)
    if seeds < LEAST_SEEDS:
        return {0: "a measure is missing", 1: "one seed"}.get(seeds, f"{seeds} seeds")
    numbers = [number for each in measures for number in (*each.seeds, each.low, each.high)]
    return "" if np.isfinite(numbers).all() else "no interval over images, or no start or re-paired twin"


def _signs(compared: Compared, method: ComparedMethod, other: ComparedMethod) -> list[int]:
    return [sign(outcome(compared, method, name), outcome(compared, other, name)) for name in MEASURE_NAMES]


def _matched(
    compared: Compared, method: ComparedMethod, reference: ComparedMethod, signs: Sequence[int]
) -> Sequence[int] | None:
    """The signs at the same compute: the same ones where it computes no more; None: not known."""
    if not any(compared.value(method, name) > compared.value(reference, name) for name in COMPUTE):
        return signs
    equal = compared.named(MATCHED)
    if equal is None or method == equal or _not_judged(compared, method, equal):
        return None
    return _signs(compared, method, equal)
