"""What a concept is in one word, from the funnel's step that refuses it and from its pairs of models (stage
`report`)."""

from collections.abc import Sequence

import pandas as pd

from usae.evidence.metrics.funnel import UNASKED as UNCONTROLLED
from usae.showing.results.choice import PASSED, STOPPED
from usae.showing.results.reports import Reports

DEAD, UNIVERSAL, SHARED, SOME, NOBODY, UNASKED = "dead", "universal", "shared", "some", "none", "unasked"
AGREED = "agreed"
LAST = "stable"  # the funnel's step after which a shared concept is called universal
PLUS = "+"  # between the slugs of two models, as in table nulls


def kinds(tables: Reports, models: Sequence[str], agreement: float) -> list[str]:
    """Of every concept: dead | universal | shared: by all, but not found again in both halves, or nobody looked |
    the slug of the one model it belongs to | `A+B`: by these two | some: by several pairs, but not by all | none |
    unasked: no table says how far it comes in the funnel | agreed: it passes all, but no control was asked.

    agreement: smallest co-fire proportion asked of a pair, as the funnel asks it of all.
    """
    concepts = tables["concepts"]
    asked = LAST in set(tables["funnel"].get("step", ()))
    pairs = sharing_pairs(tables, models, agreement)
    owners = concepts.get("unique_to", pd.Series(None, index=concepts.index, dtype=object))
    stops = concepts.get(STOPPED, owners.map(lambda _: None))
    rows = zip(concepts["concept_id"], concepts["alive"], stops, owners, strict=True)
    return [
        _kind(bool(alive), stop, owner if owner in models else None, pairs.get(int(concept), []), asked)
        for concept, alive, stop, owner in rows
    ]


def sharing_pairs(tables: Reports, models: Sequence[str], agreement: float) -> dict[int, list[str]]:
    """Concept -> the pairs that co-fire more often than re-paired images explain, on `agreement` of the fires of
    both; slugs in the order of the models.
    """
    pairs, nulls = tables["concept_pairs"], tables["nulls"]
    if pairs.empty or nulls.empty or len(models) < 3:
        return {}
    least = pairs.assign(models=[_pair(*row, models) for row in zip(pairs["model"], pairs["other"], strict=True)])
    agrees = least.groupby(["concept_id", "models"])["cofire_proportion"].min() >= agreement
    beyond = nulls[(nulls["null"] == "images") & nulls["significant"].astype(bool)]
    found: dict[int, list[str]] = {}
    for concept, pair in zip(beyond["concept_id"], beyond["models"], strict=True):
        if agrees.get((concept, pair), False):
            found.setdefault(int(concept), []).append(str(pair))
    return found


def _pair(one: str, other: str, models: Sequence[str]) -> str:
    return PLUS.join(sorted((one, other), key=list(models).index))


def _kind(alive: bool, stop: str | None, owner: str | None, pairs: Sequence[str], asked: bool) -> str:
    if not alive:
        return DEAD
    if stop in (PASSED, LAST):
        return UNIVERSAL if stop == PASSED and asked else SHARED
    if stop == UNCONTROLLED:
        return AGREED
    if owner is not None:
        return owner
    if pd.isna(stop):
        return UNASKED
    return pairs[0] if len(pairs) == 1 else SOME if pairs else NOBODY
