"""The table of the verdict (stage `measure`)."""

from usae.common.tables import Column, Table

VERDICT = Table(
    "verdict",
    "one question that decides whether the run may be read; the worst level of all is the verdict",
    (
        Column("question", "string", "what was asked, in short; docs/methods.md, The verdict, has it at length"),
        Column("level", "string", "readable: the bar is met; with caution: missed, or not asked; not readable"),
        Column("asked", "bool", "whether the run has what the answer needs"),
        Column("value", "float64", "the number that was measured; null where there is none"),
        Column("bar", "float64", "what the number is held against; null likewise"),
        Column("reason", "string", "the answer in a sentence"),
        Column("advice", "string", "what to do about it; empty where the bar is met"),
    ),
)
