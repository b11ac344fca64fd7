"""Small CSV files for `dvc plots`: the shape of the main results (stage `measure`).

`dvc plots` reads no Parquet, and a page of thousands of points per concept helps nobody: these are binned.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

ENTROPY_BINS = 30
RANK_BINS = 50
COFIRE_BINS = 20
TOP_CONCEPTS = 1000


def curves(
    reconstruction: pd.DataFrame, concepts: pd.DataFrame, concept_models: pd.DataFrame, models: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """File stem -> frame, for every CSV in `reports/plots`."""
    return {
        "r2": reconstruction[["sae", "split", "source", "target", "r2_scalar", "r2_channel"]],
        "entropy": entropy_histogram(concepts),
        "cofire": cofire_curve(concepts, concept_models, models),
        "importance": importance_curve(concepts),
    }


def entropy_histogram(concepts: pd.DataFrame) -> pd.DataFrame:
    """firing_entropy (middle of 30 bins), concepts: how many alive concepts fall in the bin."""
    edges = np.linspace(0, 1, ENTROPY_BINS + 1)
    values = concepts["firing_entropy"].dropna().clip(0, 1)
    counts, _ = np.histogram(values, edges)
    return pd.DataFrame({"firing_entropy": (edges[1:] + edges[:-1]) / 2, "concepts": counts})


def cofire_curve(concepts: pd.DataFrame, concept_models: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """model, rank, cofire_proportion: means over runs of concepts, ranked by energy; dead counts as 0."""
    ranked = concepts[concepts["energy"] > 0].sort_values("energy", ascending=False, kind="stable")
    order = ranked["concept_id"].head(TOP_CONCEPTS).to_numpy()
    wide = concept_models.pivot(index="concept_id", columns="model", values="cofire_proportion")
    runs = [run for run in np.array_split(order, RANK_BINS) if len(run)]
    last = np.cumsum([len(run) for run in runs])
    parts = [
        pd.DataFrame(
            {
                "model": model,
                "rank": last,
                "cofire_proportion": [float(wide.loc[run, model].fillna(0).mean()) for run in runs],
            }
        )
        for model in models
    ]
    return pd.concat(parts, ignore_index=True)


def importance_curve(concepts: pd.DataFrame) -> pd.DataFrame:
    """cofires (middle of logarithmic bins), energy (median over the bin), concepts (how many)."""
    shared = concepts[concepts["cofires"] > 0]
    if shared.empty:
        return pd.DataFrame({"cofires": [], "energy": [], "concepts": []})
    logs = np.log10(shared["cofires"].to_numpy(dtype=np.float64))
    edges = np.linspace(0, max(float(logs.max()), 1.0), COFIRE_BINS + 1)
    bins = np.clip(np.digitize(logs, edges) - 1, 0, COFIRE_BINS - 1)
    grouped = shared["energy"].groupby(bins).agg(["median", "size"])
    middle = 10 ** ((edges[1:] + edges[:-1]) / 2)
    return pd.DataFrame(
        {"cofires": middle[grouped.index], "energy": grouped["median"], "concepts": grouped["size"]}
    ).reset_index(drop=True)
