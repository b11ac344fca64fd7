"""The table of the recipe study, benchmarks/recipes.csv: what is there, which rate it chooses, and as Markdown."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

TABLE = Path("benchmarks/recipes.csv")
CELL = ["data", "steps", "recipe"]
KEYS = [*CELL, "seed", "learning_rate"]


def rates_of(
    rows: pd.DataFrame, cell: tuple[str, int, str], seed: int, rates: list[float], at: int | None
) -> list[float]:
    """Rates to train with: all, or the chosen one, of the budget `at` or of the seed before."""
    data, steps, recipe = cell
    if steps == 0:
        return [0.0]
    group = rows[(rows[CELL] == [data, steps if at is None else at, recipe]).all(axis=1)]
    return [chosen(group)] if at is not None or (group["seed"] < seed).any() else rates


def chosen(rows: pd.DataFrame) -> float:
    """The rate of one recipe at one budget: that of the highest `choice_r2_all`, with the first seed."""
    first = rows[rows["seed"] == rows["seed"].min()]
    return float(first.loc[first["choice_r2_all"].idxmax(), "learning_rate"])


def rows_so_far() -> pd.DataFrame:
    """The table, empty before the first row."""
    return pd.read_csv(TABLE) if TABLE.exists() else pd.DataFrame(columns=KEYS)


def known(rows: pd.DataFrame, key: list[Any]) -> bool:
    """Whether the table has that run."""
    return bool((rows[KEYS] == key).all(axis=1).any())


def append(row: dict[str, Any]) -> None:
    """Add a row to the table."""
    columns = [*KEYS, *(column for column in row if column not in KEYS)]
    frame = pd.DataFrame([row])[columns]
    frame.to_csv(TABLE, mode="a", header=not TABLE.exists(), index=False, float_format="%.5g", lineterminator="\n")


def markdown(table: pd.DataFrame) -> str:
    """Per data set and budget, a line a recipe: the choice between rates, and held-out scores with that rate."""
    lines = []
    for (data, steps), rows in table.groupby(["data", "steps"], sort=False):
        rates = sorted(rows["learning_rate"].unique())
        head = ["recipe", *(f"choice, {rate:g}" for rate in rates), "seeds", "self R²", "cross R²", "least cross"]
        head += ["co-fire proportion", "dead", "updates of encoders", "of dictionaries", "CPU-ms a step"]
        lines += [f"\n**{data}, {steps} steps**\n", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        cells = [_cells(str(name), group, rates) for name, group in rows.groupby("recipe", sort=False)]
        lines += [f"| {' | '.join(line)} |" for _, line in sorted(cells, key=lambda cell: -cell[0])]
    return "\n".join(lines)


def _cells(name: str, rows: pd.DataFrame, rates: list[float]) -> tuple[float, list[str]]:
    """A line of the Markdown, and its cross R2."""
    best, first = chosen(rows), rows[rows["seed"] == rows["seed"].min()].set_index("learning_rate")
    tried = {rate: f"{first.loc[rate, 'choice_r2_all']:.3f}" if rate in first.index else "" for rate in rates}
    tried[best] = f"**{tried[best]}**"
    final = rows[rows["learning_rate"] == best]
    means, apart = final.mean(numeric_only=True), final[["r2_self", "r2_cross"]].agg(np.ptp) / 2
    spread = {score: f" (±{apart[score]:.3f})" if len(final) > 1 else "" for score in apart.index}
    line = [name, *tried.values(), str(len(final))]
    line += [f"{means[score]:.3f}{spread[score]}" for score in spread]
    line += [f"{means['r2_cross_least']:.3f}", f"{means['cofire_proportion']:.3g}", f"{means['dead']:.3g}"]
    line += [str(final.iloc[0]["encoder_updates"]), str(final.iloc[0]["dictionary_updates"])]
    return float(means["r2_cross"]), [*line, f"{means['cpu_ms_step']:.0f}"]
