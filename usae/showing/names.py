"""What the tables' names are called on the page and in figures: one text for each, everywhere."""

from collections.abc import Callable, Iterable, Mapping

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
from usae.evidence.metrics.firing.counts import HIGH_ENTROPY

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
MEASURES = {
    "shared": "shared by all models",
    "universal": "universal",
    "r2_self_mean": "own R\u00b2, mean",
    "r2_cross_mean": "cross R\u00b2, mean",
    "alive": "alive",
    "alive_in_all_models": "alive in all models",
    "firing_entropy_median": "firing entropy, median",
    "firing_entropy_high_share": f"entropy above {HIGH_ENTROPY}, share",
    "cofire_proportion_mean": "co-fire proportion, mean",
    "cofire_proportion_min_median": "agreement, median",
    "lift_median": "lift, median",
    "importance_r": "co-fires with energy, r",
    "significant_share": "significant, share",
    "comes_back_share": "comes back, share",
    "correlation_mean": "correlation of codes, mean",
    "jaccard_mean": "Jaccard index of fires, mean",
    "cosine_mean": "decoder cosine, mean",
    "mutual_knn": "neighbours in common",
    "cka": "CKA",
    "cka_unbiased": "CKA, unbiased",
    "buddies": "mutual nearest units",
    "buddies_5": "among the 5 nearest units of each other",
    "buddy_correlation": "correlation of mutual nearest units",
    "rosetta": "mutual nearest in all models",
}
SAES = {RUN: "universal codes", TWIN: "codes of its twin", "start": "before the first step"}
METHODS = SAES | {"ridge": "best linear map", "independent": "matched own codes", "clean": "its own activations"}
THRESHOLDS = {
    "agreement": "least agreement",
    "support": "fires in each model",
    "bar": "quantile of the controls",
    "matched": "correlation with the partner",
    "threshold": "code above which a concept fires",
}
HEADINGS = {
    "concept_id": "concept",
    "chosen_by": "chosen on",
    "null": "re-paired",
    "start": "before the first step",
    "adds": "training adds",
    "adds_low": "from",
    "adds_high": "to",
    "model_i": "model",
    "model_j": "other model",
    "null_mean": "re-paired, mean",
    "ours": "this run",
    "source": "codes of",
    "target": "model rebuilt",
    "sae": "codes",
    "score": "score of the readout",
    "anyhow": "share of all",
    "repeated": "pass again",
    "setting": "images and networks",
}
READINGS = {"value": "after training", "null": "re-paired", "start": "before the first step"}
DICTIONARIES = {"trained": "as trained", "start": "before the first step", "shuffled": "of re-paired images"}
SETTINGS = {"matched": "true pairs", "shuffled": "re-paired images", "untrained": "untrained network"}
ORDER = (RUN, TWIN, SEED, HALF, K, INDEPENDENT, BRIEF, ONE_UNTRAINED, UNTRAINED, ONE_SHUFFLED, SHUFFLED)


def run_name(run: str) -> str:
    """`half-2` -> 'half of the images, 2'; a name that is none of ours stays as it is."""
    beginning = _beginning(run)
    return WHOLE.get(run) or (BEGINNINGS[beginning].format(run.removeprefix(beginning)) if beginning else run)


def in_reading_order(runs: Iterable[str]) -> list[str]:
    """The run, its twin, what repeats it, then its nulls; within each kind as given."""
    order = {name: place for place, name in enumerate(ORDER)}
    return sorted(runs, key=lambda run: order.get(run, order.get(_beginning(run), len(order))))


def measure_name(measure: str) -> str:
    """`lift_median` -> 'lift, median'; of one half in the other, `..._in_half-2` says so."""
    if measure in MEASURES:
        return MEASURES[measure]
    name, _, other = measure.partition("_in_")
    return f"{MEASURES[name]}, in {run_name(other)}" if name in MEASURES else measure


def heading(column: str, value: str = "value") -> str:
    """The words over a column of a table; `value`: those over a column of that name."""
    return value if column == "value" else HEADINGS.get(column, column.replace("_", " "))


def in_words(column: str, value: str) -> str:
    """What a text in a column is called; one that has no other name stays as it is."""
    naming = NAMING.get(column)
    return value if naming is None else naming(value)


def _beginning(run: str) -> str:
    return next((name for name in BEGINNINGS if run.startswith(name)), "")


def _from(words: Mapping[str, str]) -> Callable[[str], str]:
    return lambda value: words.get(value, value)


NAMING: dict[str, Callable[[str], str]] = {  # by the column
    "run": run_name,
    "measure": measure_name,
    "reading": _from(READINGS),
    "threshold": _from(THRESHOLDS),
    "sae": _from(METHODS),
    "method": _from(METHODS),
    "dictionary": _from(DICTIONARIES),
    "setting": _from(SETTINGS),
    "score": _from({"auc": "AUC"}),
    "chosen_by": _from({"even": "even images", "odd": "odd images"}),
}
