"""The two tables of the page of methods: what they reach, and what they cost; rows by block."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from usae.showing.comparison.verdicts import CROSS, SHARED, verdict
from usae.showing.comparison.words import MODE_LABELS, budget, described
from usae.showing.explorer.wording import decimals, number, share
from usae.showing.figures.method_stability import BACK, JUDGED
from usae.showing.figures.method_style import colour_of
from usae.showing.figures.theme import MISSING
from usae.showing.results.compared import (
    ALL,
    BEFORE,
    BLOCKS,
    BOUNDS,
    END,
    MODES,
    OTHERS,
    RANDOM,
    REPAIRED,
    SINGLE,
    TWIN,
    Compared,
    ComparedMethod,
)

FEW = 4  # methods that the caption names; of more it gives the number
RUNS = {END: "run", TWIN: "twin", BEFORE: "start", REPAIRED: "re-paired", RANDOM: "untrained"}

Measure = Callable[[Compared, ComparedMethod], float]


@dataclass(frozen=True)
class Heading:
    """One column. mode: the mode it belongs to, empty: all. missing: why a method has a dash there."""

    name: str
    title: str
    tip: str
    measure: Measure
    shown: Callable[[float], str]
    missing: str
    mode: str = ""


@dataclass(frozen=True)
class Cell:
    """One number as text; `rank` orders it, None where it is not known; beside: its interval and its seeds."""

    text: str
    rank: float | None
    mode: str
    beside: list[str]


@dataclass(frozen=True)
class Line:
    """One method. other: a note where its budget is another. matrix, counts: what its details show, as texts."""

    label: str
    block: str
    colour: str
    text: str
    other: str
    cells: list[Cell]
    verdict: str
    matrix: list[tuple[str, list[str]]]
    counts: list[tuple[str, list[str]]]


def _named(measure: str, run: str = END, mode: str = SINGLE) -> Measure:
    return lambda compared, method: compared.value(method, measure, run, mode)


def _step(step: str) -> Measure:
    return lambda compared, method: float(compared.steps(method).get(step, np.nan))


def _of_ridge(mode: str) -> Measure:
    return lambda compared, method: compared.across(method, mode) / compared.ceiling(mode)


def _less_start(measure: str) -> Measure:
    return lambda compared, method: compared.value(method, measure) - compared.value(method, measure, BEFORE)


def signed(value: float, form: str = "+.2f") -> str:
    """0.3 -> '+0.30', -0.004 -> '0.00'; a dash where it is not known."""
    if not np.isfinite(value):
        return MISSING
    text = f"{value:{form}}"
    return (text if any(digit in text for digit in "123456789") else text[1:]).replace("-", "\u2212")


def signed_count(value: float) -> str:
    """16 -> '+16'."""
    return signed(value, "+,.0f")


NO_START = "nothing was measured before a first step"
NO_SEEDS = "not trained from another start"
NO_FUNNEL = "its concepts were not put to the test"
QUALITY = (
    Heading("self", "self R²", "a model's variance explained by its own codes", _named("r2_self_mean"), decimals,
            "no codes of a model for itself", SINGLE),
    Heading("cross", "cross R²", "a model's variance explained by the codes of one other model",
            _named(CROSS), decimals, "no other model was decoded", SINGLE),
    Heading("of_ridge", "of ridge", "cross R² as a share of that of the best linear map", _of_ridge(SINGLE), share,
            "no R² or no ridge to divide by", SINGLE),
    Heading("adds", "less start", "cross R² less that before the first step: what training adds",
            _less_start(CROSS), signed, NO_START, SINGLE),
    Heading("others", "R² from all others", "a model's variance explained by codes of all models but itself",
            _named("r2_mean", mode=OTHERS), decimals, "not read from several models", OTHERS),
    Heading("others_of_ridge", "of ridge", "the same as a share of ridge from all others side by side",
            _of_ridge(OTHERS), share, "no R² or no ridge to divide by", OTHERS),
    Heading("joint", "R² sees the target", "a model's variance explained by codes of all models, itself included",
            _named("r2_mean", mode=ALL), decimals, "not read from several models", ALL),
    Heading("alive", "alive", "concepts that fire", _step("alive"), number, NO_FUNNEL),
    Heading("significant", "signifi\u00adcant", "co-fire more often than with any one model re-paired",
            _step("significant"), number, NO_FUNNEL),
    Heading("shared", "shared", "concepts that pass all steps of the funnel that every method is asked",
            _named(SHARED), number, NO_FUNNEL),
    Heading("start", "at its start", "the same count before the first step", _named(SHARED, BEFORE), number,
            NO_START),
    Heading("shuffled", "re-paired", "the same count, trained or fitted on re-paired images",
            _named(SHARED, REPAIRED), number, "no twin on re-paired images"),
    Heading("untrained", "untrained networks", "the same count on networks with random weights",
            _named(SHARED, RANDOM), number, "no twin on untrained networks"),
    Heading("beyond", "beyond these", "shared, less the start's or the re-paired twin's, whichever is more",
            Compared.beyond, signed_count, "neither start nor re-paired twin"),
    Heading("back", "come back", "of those that fire often enough, share that another start finds again; "
            "and that before the first step", _named(BACK), share, NO_SEEDS),
    Heading("auc", "label AUC", "of the best concept of each label, mean", _named("label_auc"), decimals,
            "labels were not asked"),
    Heading("auc_adds", "less start", "label AUC less that before the first step", _less_start("label_auc"),
            signed, NO_START),
)  # fmt: skip
COST = (
    Heading("l0", "codes per token", "codes above 0, mean", _named("l0"), number, "not measured"),
    Heading("steps", "steps", "updates in training", _named("steps"), number, "fitted in closed form"),
    Heading("updates", "updates of an encoder", "in how many steps one model's encoder moves",
            _named("encoder_updates"), number, "fitted in closed form"),
    Heading("parameters", "parameters", "trained numbers", _named("parameters"), number, "not counted"),
    Heading("gflop", "GFLOP", "products of encoders and decoders in training", _named("gflop"), number,
            "fitted in closed form"),
)  # fmt: skip


def lines(compared: Compared, models: Sequence[str], headings: Sequence[Heading]) -> dict[str, list[Line]]:
    """The rows of each block that has any."""
    found = {block: [each for each in compared.methods if each.block == block] for block in BLOCKS}
    return {
        block: [_line(compared, each, models, headings) for each in methods]
        for block, methods in found.items()
        if methods
    }


def runs(compared: Compared) -> dict[str, str]:
    """Those of RUNS that the counts after each step are shown of, with their headings: a twin where there is
    any.
    """
    twins = any(compared.steps(each, TWIN) for each in compared.methods)
    return {run: heading for run, heading in RUNS.items() if run != TWIN or twins}


def dashes(compared: Compared, headings: Sequence[Heading]) -> list[str]:
    """A sentence for each column with dashes: whose they are and why. Bounds have a sentence of their own."""
    methods = [each for each in compared.methods if each.block != BOUNDS]
    found = []
    for heading in headings:
        without = [each.label for each in methods if not np.isfinite(heading.measure(compared, each))]
        if without:
            whose = ", ".join(without) if len(without) <= FEW else f"{len(without)} methods"
            title = heading.title.replace("\u00ad", "")
            mode = f" ({MODE_LABELS[heading.mode]})" if heading.mode else ""
            found.append(f"{title}{mode}: {heading.missing} ({whose})")
    return found


def cell(compared: Compared, method: ComparedMethod, heading: Heading) -> Cell:
    """The number of a method in a column, with the interval and the seeds of those that decide."""
    value = heading.measure(compared, method)
    rank = float(value) if np.isfinite(value) else None
    return Cell(_minus(heading.shown(value)), rank, heading.mode, _beside(compared, method, heading))


def _beside(compared: Compared, method: ComparedMethod, heading: Heading) -> list[str]:
    """Of the two measures that decide: '0.38 to 0.40' over images, 'seeds 0.36 to 0.41'; of a share:
    'of 208', 'start 25 %'."""
    if heading.name == "back":
        judged, before = compared.value(method, JUDGED), compared.value(method, BACK, BEFORE)
        return [f"of {number(judged)}", f"start {share(before)}"] if np.isfinite(judged + before) else []
    measure = {"cross": CROSS, "shared": SHARED}.get(heading.name)
    if measure is None:
        return []
    estimate, seeds = compared.estimate(method, measure), compared.seeds(method, measure)
    ends = [("", estimate.low, estimate.high), ("seeds ", min(seeds, default=np.nan), max(seeds, default=np.nan))]
    known = [(name, low, high) for name, low, high in ends[: len(seeds)] if np.isfinite(low + high)]
    return [f"{name}{_plain(heading, low)} to {_plain(heading, high)}" for name, low, high in known]


def _plain(heading: Heading, value: float) -> str:
    return _minus(heading.shown(round(value) if heading.shown is number else value))


def _minus(text: str) -> str:
    return text.replace("-", "\u2212")


def _line(compared: Compared, method: ComparedMethod, models: Sequence[str], headings: Sequence[Heading]) -> Line:
    return Line(
        label=method.label,
        block=method.block,
        colour=colour_of(method),
        text=described(method),
        other=budget(compared, method),
        cells=[cell(compared, method, heading) for heading in headings],
        verdict=verdict(compared, method).text or MISSING,
        matrix=_matrix(compared, method, models),
        counts=[(step, _counts(compared, method, step)) for step in compared.steps(method)],
    )


def _matrix(compared: Compared, method: ComparedMethod, models: Sequence[str]) -> list[tuple[str, list[str]]]:
    """A row for each source, then one of all others, then one that sees the target; those that were measured."""
    rows: list[tuple[str, np.ndarray]] = []
    for mode in MODES:
        names = [f"from {model}" for model in models] if mode == SINGLE else [MODE_LABELS[mode]]
        rows += zip(names, compared.matrix(method, models, mode), strict=True)
    return [(name, [decimals(value) for value in values]) for name, values in rows if np.isfinite(values).any()]


def _counts(compared: Compared, method: ComparedMethod, step: str) -> list[str]:
    """Concepts left after a step, for each of `runs`."""
    counts = [compared.steps(method, run) for run in runs(compared)]
    return [f"{each[step]:,}" if step in each else MISSING for each in counts]
