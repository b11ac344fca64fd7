"""Which concepts are maximised and shown: by a rule of params.yaml, or as listed (stages `maximise` and `report`).

A concept is shown as shared where it passes the funnel, or co-fires on enough tokens, one in 400 but 10 to 100:
proportions of fewer are noise, and such concepts come last.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from usae.common.errors import UserError
from usae.common.params import MaximiseParams

LEAST, MOST, TOKENS_PER_FIRE = 10, 100, 400
MEAN_RANKING = "mean"
STOPPED, PASSED = "stops_at", "universal"  # column of table concepts: the funnel's step that refused it, or none


@dataclass(frozen=True)
class Choice:
    """A concept to show: shared by all models, or specific to one of them (`owner`)."""

    concept: int
    owner: str | None = None

    @property
    def ranking(self) -> str:
        """Which ranking in exemplars.parquet its images come from."""
        return self.owner or MEAN_RANKING


def support(concepts: pd.DataFrame) -> int:
    """Tokens on which a concept has to (co-)fire before it is shown: one in 400, at least 10, at most 100."""
    tokens = int(concepts["tokens"].max()) if len(concepts) else 0
    return min(MOST, max(LEAST, tokens // TOKENS_PER_FIRE))


def chosen_concepts(
    concepts: pd.DataFrame, concept_models: pd.DataFrame, params: MaximiseParams, models: Sequence[str]
) -> list[int]:
    """The concepts that stage `maximise` takes, by `params.rule`; at most `params.concepts`, or all of
    `params.ids`.

    Raises:
        UserError: `params.ids` names concepts that the dictionary does not have; all are listed.
    """
    if params.rule == "ids":
        return checked_concepts(params.ids or (), concepts, "`maximise.ids` in params.yaml")
    if params.rule == "energy":
        order = concepts[concepts["alive"]].sort_values(["energy", "concept_id"], ascending=[False, True])
        return [int(concept) for concept in order["concept_id"].head(params.concepts)]
    if params.rule == "entropy":
        per_model = -(-params.concepts // len(models))
        return [choice.concept for choice in specific_concepts(concepts, concept_models, models, per_model)]
    return [choice.concept for choice in shared_concepts(concepts, params.concepts)]


def added_concepts(concepts: pd.DataFrame, params: MaximiseParams, chosen: Sequence[int]) -> list[int]:
    """Those of `params.also` that are not `chosen` already.

    Raises:
        UserError: it names concepts that the dictionary does not have; all are listed.
    """
    also = checked_concepts(params.also, concepts, "`maximise.also` in params.yaml")
    return [concept for concept in also if concept not in chosen]


def checked_concepts(wanted: Sequence[int], concepts: pd.DataFrame, origin: str) -> list[int]:
    """`wanted`, without repetitions.

    Raises:
        UserError: some of them are not in the dictionary; all are listed.
    """
    dictionary = set(concepts["concept_id"])
    if unknown := [concept for concept in dict.fromkeys(wanted) if concept not in dictionary]:
        raise UserError(
            f"{origin} should name concepts from 0 to {max(dictionary, default=-1)}, found "
            f"{', '.join(map(str, unknown))}. reports/concepts.parquet lists them all."
        )
    return list(dict.fromkeys(wanted))


def shared_concepts(concepts: pd.DataFrame, count: int) -> list[Choice]:
    """The `count` concepts on which the models agree most: that pass the funnel, or co-fire enough (`support`).

    Those that pass come first, where `concepts` says which; rare ones after the others; then by the smallest
    co-firing proportion over models.
    """
    passes = concepts[STOPPED].eq(PASSED) if STOPPED in concepts else pd.Series(False, index=concepts.index)
    rare = concepts["cofires"] < support(concepts)
    agreeing = concepts["cofire_proportion_min"] > 0
    shared = concepts.assign(stopped=~passes, rare=rare)[agreeing & (passes | ~rare)]
    order = shared.sort_values(
        ["stopped", "rare", "cofire_proportion_min", "concept_id"], ascending=[True, True, False, True]
    )
    return [Choice(int(concept)) for concept in order["concept_id"].head(count)]


def specific_concepts(
    concepts: pd.DataFrame, concept_models: pd.DataFrame, models: Sequence[str], count: int
) -> list[Choice]:
    """Per model, the `count` concepts that are most its own.

    Those with the lowest `firing_entropy` among the concepts that fire most in this model, and there often enough.
    """
    fires = concept_models.pivot(index="concept_id", columns="model", values="fires")[list(models)]
    frame = pd.DataFrame({"owner": fires.idxmax(axis=1), "fires": fires.max(axis=1)})
    frame["entropy"] = concepts.set_index("concept_id")["firing_entropy"]
    frame = frame[frame["fires"] >= support(concepts)].reset_index()
    frame = frame.sort_values(["entropy", "fires", "concept_id"], ascending=[True, False, True])
    return [
        Choice(int(concept), model)
        for model in models
        for concept in frame.loc[frame["owner"] == model, "concept_id"].head(count)
    ]


def of_different_kinds(choices: Sequence[Choice], concepts: pd.DataFrame, count: int) -> list[Choice]:
    """The first `count` choices of different kinds, where labels name kinds ('shape: star' is a shape)."""
    labels = concepts.set_index("concept_id")["top_label"]
    kinds: dict[str, Choice] = {}
    for choice in choices:
        label = labels[choice.concept]
        kinds.setdefault(str(choice.concept) if pd.isna(label) else label.split(":")[0], choice)
    chosen = list(kinds.values())[:count]
    return chosen + [choice for choice in choices if choice not in chosen][: count - len(chosen)]
