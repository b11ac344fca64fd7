"""What the names of runs in tables are called on the page and in figures: one text for each, everywhere."""

from collections.abc import Iterable

from usae.evidence.controls.names import (
    BRIEF,
    HALF,
    INDEPENDENT,
    ONE_SHUFFLED,
    ONE_UNTRAINED,
    RUN,
    SEED,
    SHUFFLED,
    TWIN,
    UNTRAINED,
    K,
)

WHOLE = {
    RUN: "the run",
    TWIN: "the run's twin",
    SHUFFLED: "re-paired images: all models",
    UNTRAINED: "untrained networks: all",
}
BEGINNINGS = {  # in the order in which a reader wants them: the same again, then what should not share anything
    SEED: "another seed, {}",
    HALF: "half of the images, {}",
    K: "k = {}",
    INDEPENDENT: "own SAE: {}",
    BRIEF: "own SAE, brief: {}",
    ONE_UNTRAINED: "untrained networks: {}",
    ONE_SHUFFLED: "re-paired images: {}",
}
ORDER = (RUN, TWIN, SEED, HALF, K, INDEPENDENT, BRIEF, ONE_UNTRAINED, UNTRAINED, ONE_SHUFFLED, SHUFFLED)


def run_name(run: str) -> str:
    """`half-2` -> 'half of the images, 2'; a name that is none of ours stays as it is."""
    beginning = _beginning(run)
    return WHOLE.get(run) or (BEGINNINGS[beginning].format(run.removeprefix(beginning)) if beginning else run)


def in_reading_order(runs: Iterable[str]) -> list[str]:
    """The run, its twin, what repeats it, then its nulls; within each kind as given."""
    order = {name: place for place, name in enumerate(ORDER)}
    return sorted(runs, key=lambda run: order.get(run, order.get(_beginning(run), len(order))))


def _beginning(run: str) -> str:
    return next((name for name in BEGINNINGS if run.startswith(name)), "")
