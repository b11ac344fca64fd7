"""From counts and tables to the flat numbers of `reports/metrics.json` (stage `measure`).

The numbers are those of arXiv 2502.03714 where it has them: R2 over the whole held-out set, entropy, co-firing
proportion of the 1000 concepts with the most energy, correlation of co-fires and energy.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from usae.activations.store.manifests import SPLITS
from usae.common.layout import START
from usae.common.numerics.numbers import Numbers, median, rounded
from usae.common.types import Array
from usae.evidence.controls.names import TWIN
from usae.evidence.metrics.firing.counts import (
    HIGH_ENTROPY,
    FiringCounts,
    cofire_ceiling,
    cofire_proportion,
    cofire_proportion_min,
    energy,
    firing_entropy,
    lift,
    top_by_energy,
    unique_to,
)
from usae.evidence.metrics.firing.importance import log_fit, partial_fit

USAE, INDEPENDENT, BRIEF = "usae", "independent", "brief"  # values of column `sae`, beside START
TRAIN, HELD_OUT = SPLITS  # values of column `split`
TOP_CONCEPTS = 1000
MANY_COFIRES = 1000
HEADLINES = (  # few enough for one screen of `dvc exp show`; table `summary` has all
    "r2_self_mean",
    "r2_cross_mean",
    "r2_cross_mean/start",
    "r2_ridge_cross_mean",
    "alive",
    "agreed",
    "agreed/start",
    "shared",
    "shared/start",
    "shared/shuffled",
    "universal",
    "universal/start",
)

BESIDE_CONTROLS = ("shared/twin", "universal/twin")  # where there is one


def concept_numbers(firing: FiringCounts, norms: Array, models: Sequence[str]) -> Numbers:
    """The flat numbers that codes alone give."""
    fires, cofires = firing.fires, firing.cofires
    energies = energy(firing.mean_codes, norms)  # (models, concepts)
    entropy = firing_entropy(fires)
    numbers = {
        "tokens": firing.tokens,
        "concepts": firing.concepts,
        "alive": int(fires.any(axis=0).sum()),
        "alive_in_all_models": int(fires.all(axis=0).sum()),
        "firing_entropy_median": median(entropy),
        "firing_entropy_high_share": float((entropy > HIGH_ENTROPY).sum() / max(fires.any(axis=0).sum(), 1)),
        "cofire_proportion_min_median": median(cofire_proportion_min(cofires, fires)),
        "lift_median": median(lift(cofires, fires, firing.tokens)),
        **_per_model("dead_share", models, (fires == 0).mean(axis=1)),
        **_per_model("l0", models, firing.sparsity),
        **{f"unique/{model}": int((unique_to(fires, models) == model).sum()) for model in models},
        **_cofire_numbers(firing, energies, models),
        **_importance_numbers(firing, energies.mean(axis=0)),
    }
    return {name: rounded(value) for name, value in numbers.items()}


def reconstruction_numbers(table: pd.DataFrame) -> Numbers:
    """The flat numbers of table `reconstruction`: the matrix, its means, and the price of sharing concepts."""
    numbers: dict[str, float] = {}
    for split, prefix in ((HELD_OUT, ""), (TRAIN, "train_")):
        shared = table[(table["sae"] == USAE) & (table["split"] == split)]
        own = shared["source"] == shared["target"]
        for column, name in (("r2_channel", "r2"), ("r2_scalar", "r2_scalar")):
            if len(shared):
                numbers[f"{prefix}{name}_self_mean"] = float(shared.loc[own, column].mean())
                numbers[f"{prefix}{name}_cross_mean"] = float(shared.loc[~own, column].mean())
    held_out = table[table["split"] == HELD_OUT]
    cross = held_out[(held_out["sae"] == USAE) & (held_out["source"] != held_out["target"])]
    if "r2_ridge" in table and cross["r2_ridge"].notna().any():
        numbers["r2_ridge_cross_mean"] = float(cross["r2_ridge"].mean())
        numbers["r2_rank_k_cross_mean"] = float(cross["r2_rank_k"].mean())
        numbers["r2_ridge_others_mean"] = float(cross.groupby("target")["r2_ridge_others"].first().mean())
        numbers["r2_of_ridge_cross"] = float(cross["r2_channel"].mean() / cross["r2_ridge"].mean())
    by_all, alone = (_matrix(held_out[held_out["sae"] == sae]) for sae in (USAE, INDEPENDENT))
    numbers |= {f"r2/{source}/{target}": value for (source, target), value in by_all.items()}
    numbers |= {f"r2_independent/{model}": value for (model, _), value in alone.items()}
    twin = _matrix(held_out[held_out["sae"] == TWIN])
    numbers |= {f"r2/{source}/{target}/twin": value for (source, target), value in twin.items()}
    if alone:
        numbers["alignment_tax_mean"] = _tax(alone, twin or by_all)
        brief = _matrix(held_out[held_out["sae"] == BRIEF])
        numbers["alignment_tax_equal_encoder_mean"] = _tax(brief or alone, twin or by_all)
    before = held_out[held_out["sae"] == START]
    own = before["source"] == before["target"]
    if len(before):
        numbers["r2_self_mean/start"] = float(before.loc[own, "r2_channel"].mean())
        numbers["r2_cross_mean/start"] = float(before.loc[~own, "r2_channel"].mean())
    return {name: rounded(value) for name, value in numbers.items()}


def headlines(numbers: Numbers) -> Numbers:
    """The numbers to compare runs by, each universality number beside its null."""
    twin = {name: numbers[name] for name in BESIDE_CONTROLS if name in numbers}
    return {name: numbers.get(name) for name in HEADLINES} | twin


def summary_frame(numbers: Numbers) -> pd.DataFrame:
    """Table `summary`: every number by name."""
    values = [np.nan if value is None else float(value) for value in numbers.values()]
    return pd.DataFrame({"name": list(numbers), "value": values})


def top_mean(shares: Array, top: Array) -> Array:
    """(m,) mean of shares (m, c) over the concepts `top`; undefined ones count as 0, NaN for no concepts."""
    return np.nan_to_num(shares[:, top]).mean(axis=1) if len(top) else np.full(len(shares), np.nan)


def _cofire_numbers(firing: FiringCounts, energies: Array, models: Sequence[str]) -> Mapping[str, float]:
    """Mean co-firing proportion of the concepts with the most energy; where a model is dead it counts as 0."""
    top = top_by_energy(energies, TOP_CONCEPTS)
    means, ceilings = (
        top_mean(shares, top)
        for shares in (
            cofire_proportion(firing.cofires, firing.fires),
            cofire_ceiling(firing.fires),
        )
    )
    return {
        "cofire_proportion_mean": float(means.mean()),
        "cofire_proportion_concepts": len(top),
        "cofire_ceiling_mean": float(ceilings.mean()),
        **_per_model("cofire_proportion", models, means),
    }


def _importance_numbers(firing: FiringCounts, energies: Array) -> Mapping[str, float]:
    cofires, fires = firing.cofires, firing.fires
    every, frequent = log_fit(cofires, energies), log_fit(cofires, energies, MANY_COFIRES)
    return {
        "importance_r": every.r,
        "importance_slope": every.slope,
        "importance_concepts": every.concepts,
        "importance_frequent_r": frequent.r,
        "importance_frequent_slope": frequent.slope,
        "importance_frequent_concepts": frequent.concepts,
        "importance_partial_r": partial_fit(cofires, energies, fires).r,
        "energy_lift_r": log_fit(lift(cofires, fires, firing.tokens), energies).r,
    }


def _tax(alone: Mapping[tuple[str, str], float], shared: Mapping[tuple[str, str], float]) -> float:
    """What a model's own R2 loses by sharing concepts, mean over models."""
    return float(np.mean([value - shared.get(pair, np.nan) for pair, value in alone.items()]))


def _matrix(table: pd.DataFrame) -> dict[tuple[str, str], float]:
    """(source, target) -> R2 about the channel means."""
    columns = (table[name].tolist() for name in ("source", "target", "r2_channel"))
    return {(source, target): value for source, target, value in zip(*columns, strict=True)}


def _per_model(name: str, models: Sequence[str], values: Array) -> Mapping[str, float]:
    return {f"{name}/{model}": float(value) for model, value in zip(models, values, strict=True)}


def nulls_beside(firing: FiringCounts, permuted: Array, energies: Array) -> Mapping[str, float]:
    """The numbers of the run with that model re-paired whose co-fires stay the most frequent, concept by concept.

    permuted (moves, B, c): see `CofireNulls`. energies (m, c).
    """
    fires, mean = firing.fires, permuted.mean(axis=1).max(axis=0)
    total = energies.mean(axis=0)  # (concepts,)
    top = top_by_energy(energies, TOP_CONCEPTS)
    correlations = [[log_fit(counts, total).r for counts in move] for move in permuted]
    return {
        "cofire_proportion_null_mean": float(top_mean(cofire_proportion(mean, fires), top).mean()),
        "lift_null_median": median(lift(mean, fires, firing.tokens)),
        "cofire_proportion_min_null_median": median(cofire_proportion_min(mean, fires)),
        "importance_null_r": float(np.mean(correlations, axis=1).max()),
    }
