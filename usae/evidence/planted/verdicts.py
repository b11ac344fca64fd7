"""What is asked of the code of each planted concept, and which rules call it universal (stage `planted`).

Each planted concept is judged at the code that follows it best in the models that have it. A concept that is not
shared by all models and that a rule calls universal is a false one.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from usae.common.numerics.significance import FALSE_DISCOVERY_RATE, significance
from usae.common.types import Array
from usae.evidence.metrics.firing.counts import (
    HIGH_ENTROPY,
    FiringCounts,
    cofire_proportion_min,
    firing_entropy,
    lift,
)
from usae.evidence.metrics.firing.evidence import evidence, supported
from usae.evidence.metrics.firing.nulls import IMAGES, JOINT, CofireNulls
from usae.evidence.metrics.funnel import Thresholds, common_steps
from usae.evidence.planted.ideal import CodeBlocks
from usae.evidence.planted.recovery import Matches
from usae.evidence.planted.world import SHARED, PlantedWorld

SCORES = ("firing_entropy", "cofire_proportion_min", "correlation_min", "lift")
FUNNEL, ALIKE = "funnel", "alike"
RULES = ("entropy", "dependent", "significant", FUNNEL, ALIKE)
CORRELATED = 0.4  # smallest correlation between two models that rule `alike` asks for


def universality_scores(counts: FiringCounts, correlations: Array) -> dict[str, Array]:
    """(c,) each of SCORES, NaN where it is not defined; correlations (c,): see `likeness`.

    cofire_proportion_min is the smallest over models.
    """
    fires, cofires = counts.fires, counts.cofires
    proportion, lifts = cofire_proportion_min(cofires, fires), lift(cofires, fires, counts.tokens)
    return dict(zip(SCORES, (firing_entropy(fires), proportion, correlations, lifts), strict=True))


def against_chance(
    counts: FiringCounts, codes: CodeBlocks, permutations: int, seed: int
) -> tuple[pd.DataFrame, Array]:
    """Evidence of every code, against each model re-paired alone, and q (c,) against all re-paired at once."""
    group, images = tuple(range(counts.models)), sum(len(chunks[0].images) for chunks in codes)
    keys = [(IMAGES, group), (JOINT, group)]
    nulls = CofireNulls(counts.models, counts.concepts, counts.threshold, permutations, seed, images, only=keys)
    for chunks in codes:
        nulls.update(chunks)
    nulls.finish()
    alone = nulls.counts[IMAGES, group]
    at_once = nulls.counts.get((JOINT, group), alone)  # of two models both are the same
    return evidence(counts, alone), significance(counts.cofires, at_once, supported(counts.fires)).q


def rules(
    tested: pd.DataFrame, dependent: Array, correlations: Array, models: int, agreement: float
) -> dict[str, Array]:
    """(c,) which codes each of RULES calls universal.

    tested: see `metrics.firing.evidence.evidence`; dependent (c,): q against all models re-paired at once;
    correlations (c,): see `likeness`.
    funnel: its steps from alive to agreement. The others are not asked: there are no untrained networks, no other
    images and no labels here. alike: significant, and correlations in place of the agreement.
    """
    significant = (tested["q"] <= FALSE_DISCOVERY_RATE).to_numpy()
    steps = common_steps(tested, models, None, Thresholds(agreement))
    called = (
        (tested["firing_entropy"] > HIGH_ENTROPY).to_numpy(),
        dependent <= FALSE_DISCOVERY_RATE,
        significant,
        np.logical_and.reduce([step.passed for step in steps]),
        significant & (correlations >= CORRELATED),
    )
    return dict(zip(RULES, called, strict=True))


def concept_rows(
    world: PlantedWorld, matches: Matches, scores: Mapping[str, Array], p: Array, called: Mapping[str, Array]
) -> pd.DataFrame:
    """Rows of table `planted_concepts`, but for setting and seed: planted concepts at their codes.

    scores, p and `called` (c,): of the codes.
    """
    joint = matches.joint
    columns = {
        "planted_id": np.arange(len(world.kinds)),
        "kind": world.kinds,
        "concept_id": joint,
        "cosine": np.nanmean(matches.joint_cosines, axis=0),
        "best_cosine": np.nanmean(matches.cosines, axis=0),
        "found": matches.found.sum(axis=0) / world.owners.sum(axis=1),
        "agreed": matches.agreed,
        "tracked": matches.tracked,
        **{name: values[joint] for name, values in scores.items()},
        "p": p[joint],
        **{name: universal[joint] for name, universal in _columns(called).items()},
    }
    return pd.DataFrame(columns)


def precision_rows(
    world: PlantedWorld, matches: Matches, scores: Mapping[str, Array], called: Mapping[str, Array]
) -> pd.DataFrame:
    """A row per code, for the precision of the rules: `shared`, whether it follows one and the same shared concept
    in all models, its scores, and whether each rule calls it universal.
    """
    follows = matches.follows
    shared = (follows >= 0) & (world.kinds[follows] == SHARED)
    return pd.DataFrame({"shared": shared, **scores, **_columns(called)})


def _columns(called: Mapping[str, Array]) -> dict[str, Array]:
    return {f"called_{rule}": universal for rule, universal in called.items()}
