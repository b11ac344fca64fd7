"""The tables of the replication, benchmarks/replication.csv and its curves: what is there, and as Markdown."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from usae.evidence.controls.names import RUN, SHUFFLED

TABLE = Path("benchmarks/replication.csv")
KEYS = ["data", "seed", "steps", "k", "dictionary"]


def rows_so_far() -> pd.DataFrame:
    """The table, empty before the first row."""
    return pd.read_csv(TABLE) if TABLE.exists() else pd.DataFrame(columns=KEYS)


def known(rows: pd.DataFrame, key: list[Any]) -> bool:
    """Whether the table has that k and dictionary."""
    return bool((rows[KEYS] == key).all(axis=1).any())


def append(rows: Iterable[Mapping[str, Any]], file: Path | None = None) -> None:
    """Add rows to the table, or to another `file`."""
    frame, file = pd.DataFrame(rows), file or TABLE
    frame.to_csv(file, mode="a", header=not file.exists(), index=False, float_format="%.4g", lineterminator="\n")


def markdown(rows: pd.DataFrame) -> str:
    """A table for each data set and budget, a line for each k, dictionary, seed and kind of images."""
    blocks = []
    for (data, steps), group in rows.groupby(["data", "steps"], sort=False):
        cells = group.groupby(["k", "dictionary", "seed", "images"], sort=False)
        lines = [_line(*cell, own) for cell, own in cells]
        head = list(lines[0])
        table = [head, ["---"] * len(head), *(line.values() for line in lines)]
        blocks.append(f"**{data}, {steps} steps**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in table))
    return "\n\n".join(blocks)


def _line(k: int, dictionary: int, seed: int, images: str, rows: pd.DataFrame) -> dict[str, str]:
    runs = rows.set_index("run").reindex([RUN, SHUFFLED, "alone", "linear", "linear, rank k"])
    pairs = [column for column in rows if column.startswith("r2_")]
    own = [column for column in pairs if len({*column.split("_")[1:]}) == 1]
    cross = [column for column in pairs if column not in own]
    universal, shuffled, alone = runs.loc[RUN], runs.loc[SHUFFLED], runs.loc["alone"]
    return {
        "k": str(k),
        "concepts": str(dictionary),
        "seed": str(seed),
        "images": images,
        "self R²": _of(universal, own),
        "alone": _of(alone, own),
        "tax": _of(alone[own] - universal[own], own),
        "cross R²": _of(universal, cross),
        "re-paired: self, cross": f"{_of(shuffled, own)}, {_of(shuffled, cross)}",
        "linear": _of(runs.loc["linear"], cross),
        "of rank k": _of(runs.loc["linear, rank k"], cross),
        "alive": f"{universal.alive:.0f}",
        "one model": f"{universal.one_model:.0f} ({shuffled.one_model:.0f})",
        "entropy > 0.8": f"{universal.mostly_both:.0f} ({shuffled.mostly_both:.0f})",
        "> 0.95": f"{universal.both:.0f} ({shuffled.both:.0f})",
        "co-fire proportion": f"{universal.cofire_proportion:.2f} ({shuffled.cofire_proportion:.2f})",
        "lift": f"{universal.lift_median:.1f} ({shuffled.lift_median:.1f})",
        "CPU s": f"{universal.cpu_seconds:.0f}",
    }


def _of(values: pd.Series, columns: list[str]) -> str:
    return "" if values[columns].isna().all() else " / ".join(f"{float(values[column]):.2f}" for column in columns)
