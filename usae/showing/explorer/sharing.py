"""Which models share a concept, pair by pair, and the labels that name it: what the page filters by (`report`)."""

from collections.abc import Sequence
from itertools import combinations

import pandas as pd

from usae.showing.scripts import Json, plain_value

LABEL_NUMBERS = ("precision", "recall", "iou", "base")


def pair_marks(pairs: pd.DataFrame, concepts: pd.DataFrame, models: Sequence[str], agreement: float) -> Json:
    """By pair of models, "first+second", a mark for each concept: 1 where the two agree on it, else 0.

    They agree where at least the share `agreement` of the fires of each are co-fires, more than chance gives
    (table `concept_pairs`). Nothing where the run has no such table.
    """
    if pairs.empty:
        return {}
    agrees = pairs[(pairs["cofire_proportion"] >= agreement) & (pairs["lift"] > 1)]
    known = set(zip(agrees["concept_id"], agrees["model"], agrees["other"], strict=True))
    return {
        f"{one}+{two}": "".join(
            str(int({(concept, one, two), (concept, two, one)} <= known)) for concept in concepts["concept_id"]
        )
        for one, two in combinations(models, 2)
    }


def label_lists(labels: pd.DataFrame, concepts: pd.DataFrame) -> list[list[Json]]:
    """Per concept, in the order of the rows of table concepts, the labels that name it, best first: `label`,
    precision, recall, IoU and base (table `concept_labels`; without it the top label alone).
    """
    if labels.empty:
        top = zip(*(concepts[f"top_label{part}"] for part in ("", "_share", "_base")), strict=True)
        return [
            []
            if pd.isna(label)
            else [{"label": label, "precision": plain_value(share), "base": plain_value(base)}]
            for label, share, base in top
        ]
    rows: dict[int, list[Json]] = {}
    for row in labels.sort_values(["concept_id", "rank"]).to_dict("records"):
        numbers = {name: plain_value(float(f"{row[name]:.3g}")) for name in LABEL_NUMBERS}
        rows.setdefault(int(row["concept_id"]), []).append({"label": row["label"], **numbers})
    return [rows.get(int(concept), []) for concept in concepts["concept_id"]]
