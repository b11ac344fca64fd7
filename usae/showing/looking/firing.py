"""Which concepts fire most in a picture, in every model, and where (`usae look`)."""

from collections.abc import Mapping
from dataclasses import dataclass

from usae.common.types import Array
from usae.sae.sparse import SparseCodes
from usae.showing.looking.reading import concept_map


@dataclass(frozen=True)
class Seen:
    """One concept in one picture, by one model.

    rank: 1 is the concept with the largest sum of codes in the picture; None: does not fire. mean: code over all
    tokens, zeros included. places: tokens on which it fires. codes: (grid, grid).
    """

    rank: int | None
    mean: float
    places: int
    codes: Array


def strongest(codes: Mapping[str, SparseCodes], grid: int, count: int) -> dict[int, dict[str, Seen]]:
    """The `count` strongest concepts of each model in a picture, each as every model sees it.

    codes: (tokens, k) by model. Concepts that are strong in any model come first.
    """
    order = {model: list(own.top(own.values.numel())) for model, own in codes.items()}
    ranks = {model: {concept: place + 1 for place, concept in enumerate(own)} for model, own in order.items()}
    wanted = {concept for own in order.values() for concept in own[:count]}
    best = {concept: sorted(own.get(concept, 1 << 30) for own in ranks.values()) for concept in wanted}
    return {
        concept: {model: _seen(own, concept, ranks[model].get(concept), grid) for model, own in codes.items()}
        for concept in sorted(wanted, key=lambda concept: (best[concept], concept))
    }


def _seen(codes: SparseCodes, concept: int, rank: int | None, grid: int) -> Seen:
    where = concept_map(codes, concept, grid)
    return Seen(rank, float(where.mean()), int((where > 0).sum()), where)


def codes_of(every: Mapping[str, SparseCodes], picture: int) -> dict[str, SparseCodes]:
    """The codes of one picture, of those (pictures, tokens, k)."""
    return {model: codes[picture] for model, codes in every.items()}
