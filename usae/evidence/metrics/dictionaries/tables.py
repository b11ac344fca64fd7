"""Table `consistency` (stage `measure`)."""

from usae.common.columns import CONCEPT, MODEL
from usae.common.tables import Column, Table

CONSISTENCY = Table(
    "consistency",
    "one concept of one model's universal dictionary, matched one to one with another dictionary",
    (
        MODEL,
        Column("sae", "string", "usae; start: the same before its first step; twin: its twin, where there is one"),
        Column(
            "against",
            "string",
            "independent: the dictionary of the model's own SAE; gaussian: the baseline, two random"
            " dictionaries of this size matched with each other (concept_id is then a mere number)",
        ),
        CONCEPT,
        Column("partner", "int32", "matched concept of the other dictionary; null for gaussian"),
        Column(
            "cosine",
            "float64",
            "cosine of the two, without the mean token's direction; the matching makes their sum largest",
        ),
    ),
)
