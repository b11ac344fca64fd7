"""Small CSV files for `dvc plots`: the shape of the main results (stage `measure`).

`dvc plots` reads no Parquet, and a page of thousands of points per concept helps nobody: these are binned.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from usae.common.layout import START
from usae.common.tables import Table
from usae.common.types import Array
from usae.evidence.controls.names import RUN, SHUFFLED, TWIN
from usae.evidence.metrics.dictionaries.consistency import INDEPENDENT, survival
from usae.evidence.metrics.dictionaries.tables import CONSISTENCY
from usae.evidence.metrics.funnel import all_levels
from usae.evidence.metrics.measure.concept_tables import CONCEPT_MODELS, CONCEPTS, NULLS
from usae.evidence.metrics.measure.funnel_tables import Funnel
from usae.evidence.metrics.measure.nulls_tables import top_sets
from usae.evidence.metrics.measure.tables import FUNNEL, RECONSTRUCTION
from usae.evidence.metrics.summary import TOP_CONCEPTS, USAE

ENTROPY_BINS = 30
RANK_BINS = 50
COFIRE_BINS = 20
COSINES = np.linspace(0, 1, 21)


def curves(tables: Mapping[Table, pd.DataFrame], models: Sequence[str], funnel: Funnel) -> dict[str, pd.DataFrame]:
    """File stem -> frame, for every CSV in `reports/plots`, from the tables by name, and from what the funnel is
    of.
    """
    concepts = tables[CONCEPTS]
    columns = ["sae", "split", "source", "target", "r2_scalar", "r2_channel", "r2_ridge"]
    return {
        "r2": tables[RECONSTRUCTION][columns],
        "entropy": entropy_histogram(concepts, funnel.evidence),
        "funnel": funnel_steps(all_levels(tables[FUNNEL])),
        "cofire": cofire_curve(concepts, tables[CONCEPT_MODELS], models),
        "importance": importance_curve(concepts),
        "consistency": consistency_curves(tables[CONSISTENCY], top_sets(concepts)),
        "nulls": null_counts(tables[NULLS]),
        "stability": stability_curves(funnel.stability),
    }


def entropy_histogram(concepts: pd.DataFrame, evidence: pd.DataFrame) -> pd.DataFrame:
    """run, firing_entropy (middle of 30 bins), concepts: how many alive concepts fall in the bin; also of the SAE
    that was trained on re-paired images, and of the run's twin, where there are such."""
    edges = np.linspace(0, 1, ENTROPY_BINS + 1)
    trained = evidence[~evidence["start"].astype(bool)]
    beside = {run: trained.loc[trained["run"] == run, "firing_entropy"] for run in (TWIN, SHUFFLED)}
    frames = []
    for run, values in {RUN: concepts["firing_entropy"], **beside}.items():
        if run != RUN and values.empty:
            continue
        counts, _ = np.histogram(values.dropna().astype(np.float64).clip(0, 1), edges)
        frames.append(
            pd.DataFrame({"run": run, "firing_entropy": (edges[1:] + edges[:-1]) / 2, "concepts": counts})
        )
    return pd.concat(frames, ignore_index=True)


def funnel_steps(funnel: pd.DataFrame) -> pd.DataFrame:
    """passes ("run 1. step"), concepts: how many pass the step and all before it."""
    step = funnel.groupby(["run", "start"], sort=False).cumcount() + 1
    before = funnel["start"].map({True: " before its first step", False: ""})
    run = funnel["run"].astype(str) + before
    passes = run + " " + step.astype(str) + ". " + funnel["step"].astype(str)
    return pd.DataFrame({"passes": passes, "concepts": funnel["concepts"]})


def cofire_curve(concepts: pd.DataFrame, concept_models: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """model, rank, cofire_proportion: means over runs of concepts, ranked by energy; dead counts as 0."""
    ranked = concepts[concepts["energy"] > 0].sort_values("energy", ascending=False, kind="stable")
    order = ranked["concept_id"].head(TOP_CONCEPTS).to_numpy()
    wide = concept_models.pivot(index="concept_id", columns="model", values="cofire_proportion")
    runs = [run for run in np.array_split(order, RANK_BINS) if len(run)]
    last = np.cumsum([len(run) for run in runs])
    frames = [
        pd.DataFrame(
            {
                "model": model,
                "rank": last,
                "cofire_proportion": [float(wide.loc[run, model].fillna(0).mean()) for run in runs],
            }
        )
        for model in models
    ]
    return pd.concat(frames, ignore_index=True)


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


def consistency_curves(table: pd.DataFrame, sets: Mapping[str, Array]) -> pd.DataFrame:
    """model, concepts (a set, start or gaussian), threshold, share: of the matched cosines above the threshold."""
    frames = []
    for (model, sae, against), rows in table.groupby(["model", "sae", "against"], sort=False):
        cosines = rows.set_index("concept_id")["cosine"]
        whole = sae if sae in (START, TWIN) else against
        chosen = sets if (sae, against) == (USAE, INDEPENDENT) else {whole: cosines.index.to_numpy()}
        for name, concepts in chosen.items():
            share = survival(cosines.loc[concepts].to_numpy(), COSINES)
            frames.append(pd.DataFrame({"model": model, "concepts": name, "threshold": COSINES, "share": share}))
    return pd.concat(frames) if frames else pd.DataFrame(columns=["model", "concepts", "threshold", "share"])


def null_counts(table: pd.DataFrame) -> pd.DataFrame:
    """comparison ("null: models"), tested and significant concepts, lift (median, over the null's mean)."""
    named = table.assign(comparison=table["null"] + ": " + table["models"])
    columns = {"tested": ("concept_id", "size"), "significant": ("significant", "sum"), "lift": ("lift", "median")}
    return named.groupby("comparison", sort=False).agg(**columns).reset_index()


def stability_curves(table: pd.DataFrame) -> pd.DataFrame:
    """match (which SAE in which), threshold, share: of the judged concepts whose correlation is above it."""
    frames = []
    for (run, against, start), rows in table.groupby(["run", "against", "start"], sort=False):
        judged = rows["correlation"].dropna().to_numpy()
        name = f"{run} in {against}" + (", before the first step" if start else "")
        share = survival(judged, COSINES)
        frames.append(pd.DataFrame({"match": name, "threshold": COSINES, "share": share}))
    return pd.concat(frames) if frames else pd.DataFrame(columns=["match", "threshold", "share"])
