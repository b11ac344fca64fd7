"""From counts to the tables that have a row for each concept (stage `measure`)."""

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pandas as pd

from usae.common.tables import no_rows
from usae.common.types import Array
from usae.evidence.metrics.firing.counts import (
    FiringCounts,
    cofire_ceiling,
    cofire_proportion,
    cofire_proportion_min,
    energy,
    firing_entropy,
    lift,
    log10_lift,
    unique_to,
)
from usae.evidence.metrics.measure.concept_tables import CONCEPT_PAIRS


def concepts_frame(
    firing: FiringCounts, norms: Array, labels: pd.DataFrame, models: Sequence[str]
) -> pd.DataFrame:
    """Table `concepts` but for `significant` and the levels; `norms` (m, c) of contributions.

    labels: the label columns.
    """
    fires, cofires = firing.fires, firing.cofires
    lifts = lift(cofires, fires, firing.tokens)
    models_alive = (fires > 0).sum(axis=0)
    columns = {
        "concept_id": np.arange(firing.concepts),
        "alive": models_alive > 0,
        "models_alive": models_alive,
        "fires": fires.sum(axis=0),
        "cofires": cofires,
        "tokens": np.full(firing.concepts, firing.tokens),
        "firing_entropy": firing_entropy(fires),
        "unique_to": unique_to(fires, models),
        "cofire_proportion_min": cofire_proportion_min(cofires, fires),
        "lift": lifts,
        "log10_lift": log10_lift(lifts),
        "energy": energy(firing.mean_codes, norms).mean(axis=0),
    }
    return pd.concat([pd.DataFrame(columns), labels], axis=1)


def concept_models_frame(firing: FiringCounts, norms: Array, models: Sequence[str]) -> pd.DataFrame:
    """Table `concept_models`: concepts in order, and models in order within each."""
    fires, energies = firing.fires, energy(firing.mean_codes, norms)
    columns = {
        "concept_id": np.broadcast_to(np.arange(firing.concepts), fires.shape),
        "model": np.broadcast_to(np.array(models, dtype=object)[:, None], fires.shape),
        "fires": fires,
        "firing_rate": fires / max(firing.tokens, 1),
        "cofires_without": firing.cofires_without,
        "cofire_proportion": cofire_proportion(firing.cofires, fires),
        "cofire_ceiling": cofire_ceiling(fires),
        "joins_others": cofire_proportion(firing.cofires, firing.cofires_without),
        "energy": energies,
        "energy_squared": energies**2,
        "mean_code": firing.mean_codes,
        "max_code": firing.maxima,
    }  # each (models, concepts)
    return pd.DataFrame({name: values.T.ravel() for name, values in columns.items()})


def concept_pairs_frame(firing: FiringCounts, models: Sequence[str]) -> pd.DataFrame:
    """Table `concept_pairs`: concepts in order, and ordered pairs of models within each."""
    pairs = list(permutations(range(len(models)), 2))
    fires = firing.fires
    frames = []
    for model, other in pairs:
        both, own = firing.together([model, other]), fires[[model, other]]
        columns = {
            "concept_id": np.arange(firing.concepts),
            "model": models[model],
            "other": models[other],
            "cofires": both,
            "cofire_proportion": cofire_proportion(both, fires[model]),
            "cofire_ceiling": cofire_ceiling(own)[0],
            "lift": lift(both, own, firing.tokens),
        }
        frames.append(pd.DataFrame(columns))
    if not frames:
        return no_rows(CONCEPT_PAIRS)
    return pd.concat(frames).sort_values("concept_id", kind="stable", ignore_index=True)


def patterns_frame(firing: FiringCounts, models: Sequence[str]) -> pd.DataFrame:
    """Table `patterns`: the sets of models that fire together, for every concept."""
    concept, pattern, fires = firing.patterns.rows
    sets, which = np.unique(pattern, return_inverse=True)
    names = ["+".join(model for bit, model in enumerate(models) if each >> bit & 1) for each in sets.tolist()]
    return pd.DataFrame(
        {
            "concept_id": concept,
            "pattern": pattern,
            "models": np.array(names, dtype=object)[which],
            "fires": fires,
        }
    )
