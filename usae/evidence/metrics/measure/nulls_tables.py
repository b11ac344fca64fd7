"""What nulls and baselines say about a run: tables, and a number to stand beside its own (stage `measure`).

Source of the numbers: arXiv 2502.03714, Figs. 6 to 8; the nulls are ours.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from usae.common.layout import START
from usae.common.numerics.numbers import Numbers, median, rounded
from usae.common.numerics.significance import significance
from usae.common.tables import no_rows
from usae.common.types import Array
from usae.evidence.controls.names import TWIN
from usae.evidence.metrics.dictionaries.consistency import GAUSSIAN, INDEPENDENT, above, auc
from usae.evidence.metrics.firing.counts import TOP_SHARE, FiringCounts
from usae.evidence.metrics.firing.evidence import supported
from usae.evidence.metrics.firing.nulls import IMAGES, TOKENS, CofireNulls, moves
from usae.evidence.metrics.measure.concept_tables import NULLS
from usae.evidence.metrics.summary import TOP_CONCEPTS, USAE, nulls_beside


def nulls_frame(firing: FiringCounts, nulls: CofireNulls, models: Sequence[str]) -> pd.DataFrame:
    """Table `nulls`: for every null and group of models, the concepts that fire often enough in all of them."""
    frames: list[pd.DataFrame] = []
    for (null, group), permuted in nulls.counts.items():
        observed, tested = firing.together(group), supported(firing.fires[list(group)])
        null_test = significance(observed, permuted, tested)
        moved = np.array(["+".join(models[model] for model in move) for move in moves(null, group)], dtype=object)
        columns = {
            "concept_id": np.arange(firing.concepts),
            "models": "+".join(models[model] for model in group),
            "null": null,
            "moved": moved[null_test.hardest],
            "cofires": observed,
            "null_mean": null_test.mean,
            "null_sd": null_test.sd,
            "lift": null_test.lift,
            "z": null_test.z,
            "p": null_test.p,
            "p_tail": null_test.tail,
            "q": null_test.q,
            "significant": null_test.significant,
        }
        frames.append(pd.DataFrame(columns).loc[tested])
    if not frames:
        return no_rows(NULLS)
    return pd.concat(frames, ignore_index=True)


def significant_concepts(table: pd.DataFrame, models: Sequence[str], concepts: int) -> pd.Series:
    """(c,) column `significant` of table `concepts`: all models, under null `images`; missing where not tested."""
    rows = _rows(table, IMAGES, models).set_index("concept_id")["significant"].astype("boolean")
    return rows.reindex(np.arange(concepts)).rename("significant")


def null_numbers(
    firing: FiringCounts,
    nulls: CofireNulls,
    table: pd.DataFrame,
    energies: Array,
    models: Sequence[str],
) -> Numbers:
    """Per null and group: concepts tested, significant, median lift; and the run's numbers under null `images`."""
    numbers: dict[str, float] = {}
    for (null, group), rows in table.groupby(["null", "models"], sort=False):
        name = f"{null}/{group}"
        numbers[f"tested/{name}"] = len(rows)
        numbers[f"significant/{name}"] = int(rows["significant"].sum())
        numbers[f"lift_over_null_median/{name}"] = float(rows["lift"].median())
    all_models = tuple(range(len(models)))
    if (IMAGES, all_models) in nulls.counts:
        numbers |= nulls_beside(firing, nulls.counts[IMAGES, all_models], energies)
        images, tokens = (_rows(table, null, models) for null in (IMAGES, TOKENS))
        numbers["significant_share"] = float(images["significant"].sum() / max(firing.fires.any(axis=0).sum(), 1))
        numbers["position_share_median"] = _position_share(images, tokens)
    return {name: rounded(value) for name, value in numbers.items()}


def top_sets(concepts: pd.DataFrame) -> dict[str, Array]:
    """Set -> concept ids: all; the top by co-fires; the top by lift among the significant ones."""
    count = max(1, min(TOP_CONCEPTS, round(TOP_SHARE * len(concepts))))
    sure = concepts[concepts["significant"].fillna(False).astype(bool)]
    order = {
        "top_cofiring": concepts[concepts["cofires"] > 0].sort_values("cofires", ascending=False, kind="stable"),
        "top_lift": sure.sort_values("lift", ascending=False, kind="stable"),
    }
    tops = {name: np.sort(frame["concept_id"].head(count).to_numpy()) for name, frame in order.items()}
    return {"all": concepts["concept_id"].to_numpy(), **tops}


def consistency_numbers(table: pd.DataFrame, sets: Mapping[str, Array]) -> Numbers:
    """AUC and share above 0.5 per set and model, the Gaussian baseline's, and means over models.

    `consistency_same_number`: share of partners with the same concept_id. By chance it is 1 / c; where it is more,
    the two SAEs started alike, and their agreement is partly that.
    """
    numbers: dict[str, float] = {}
    for model, rows in table.groupby("model", sort=False):
        before = rows.loc[rows["sae"] == START, "cosine"].to_numpy()
        numbers[f"consistency_auc/{START}/{model}"] = auc(before)
        if (twin := rows.loc[rows["sae"] == TWIN, "cosine"]).size:
            numbers[f"consistency_auc/{TWIN}/{model}"] = auc(twin.to_numpy())
        rows = rows[rows["sae"] == USAE]
        matched = rows[rows["against"] == INDEPENDENT]
        cosines = matched.set_index("concept_id")["cosine"]
        numbers[f"consistency_same_number/{model}"] = float((matched["partner"] == matched["concept_id"]).mean())
        for name, chosen in sets.items():
            part = cosines.loc[chosen].to_numpy()
            numbers[f"consistency_auc/{name}/{model}"] = auc(part)
            numbers[f"consistency_above_half/{name}/{model}"] = above(part)
        floor = rows.loc[rows["against"] == GAUSSIAN, "cosine"].to_numpy()
        numbers[f"consistency_auc/{GAUSSIAN}/{model}"] = auc(floor)
    for name, label in (
        ("all", "consistency_auc_mean"),
        (START, "consistency_start_auc_mean"),
        (TWIN, "consistency_twin_auc_mean"),
        (GAUSSIAN, "consistency_gaussian_auc_mean"),
    ):
        values = [value for key, value in numbers.items() if key.startswith(f"consistency_auc/{name}/")]
        if values:
            numbers[label] = float(np.mean(values))
    return {name: rounded(value) for name, value in numbers.items()}


def _position_share(images: pd.DataFrame, tokens: pd.DataFrame) -> float:
    """Median share of a concept's co-fires beyond its rates that positions explain."""
    rates, kept, observed = (
        tokens["null_mean"].to_numpy(),
        images["null_mean"].to_numpy(),
        images["cofires"].to_numpy(),
    )
    above_rates = observed > rates
    return median((kept - rates)[above_rates] / (observed - rates)[above_rates])


def _rows(table: pd.DataFrame, null: str, models: Sequence[str]) -> pd.DataFrame:
    return table[(table["null"] == null) & (table["models"] == "+".join(models))]
