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


def markdown(rows: pd.DataFrame) -> str:
    """Three tables for each data set: R2 over the budgets, the choice of the rate, all held-out scores."""
    groups = [
        (data, group.sort_values("steps", kind="stable")) for data, group in rows.groupby("data", sort=False)
    ]
    return "\n\n".join(
        f"**{data}, {name}**\n\n{_lines(table(group))}"
        for data, group in groups
        for name, table in {"self / cross R²": _curve, "choice": _choice, "held out": _held_out}.items()
    )


def _with_chosen_rate(rows: pd.DataFrame) -> list[tuple[int, str, pd.DataFrame]]:
    """Budget, recipe, and their rows with the chosen rate, a row a seed."""
    groups = rows.groupby(["steps", "recipe"], sort=False)
    return [(int(s), str(name), group[group["learning_rate"] == chosen(group)]) for (s, name), group in groups]


def _curve(rows: pd.DataFrame) -> list[dict[str, str]]:
    """A line a budget, a column a recipe that was run at several."""
    lines: dict[int, dict[str, str]] = {}
    for steps, recipe, final in _with_chosen_rate(rows[rows.groupby("recipe")["steps"].transform("nunique") > 1]):
        score = f"{final['r2_self'].mean():.3f} / {final['r2_cross'].mean():.3f}"
        lines.setdefault(steps, {"steps": str(steps)})[recipe] = score
    return list(lines.values())


def _choice(rows: pd.DataFrame) -> list[dict[str, str]]:
    """R2 over all pairs on the images kept for the choice, with the first seed; the chosen rate is bold."""
    lines, rates = [], sorted({*rows["learning_rate"]} - {0})
    for (steps, recipe), group in rows[rows["steps"] > 0].groupby(["steps", "recipe"], sort=False):
        first = group[group["seed"] == group["seed"].min()].set_index("learning_rate")["choice_r2_all"]
        score = {rate: f"{first[rate]:.3f}" for rate in rates if rate in first.index}
        score[chosen(group)] = f"**{score[chosen(group)]}**"
        line = {"steps": str(steps), "recipe": str(recipe)}
        lines.append({**line, **{f"{rate:g}": score.get(rate, "") for rate in rates}})
    return lines


def _held_out(rows: pd.DataFrame) -> list[dict[str, str]]:
    """Means over the seeds with the chosen rate, and half their range; the updates are those of the first seed."""
    lines = []
    for steps, recipe, final in _with_chosen_rate(rows):
        mean, half = final.mean(numeric_only=True), final[["r2_self", "r2_cross"]].agg(np.ptp) / 2
        spread = {score: f" (±{half[score]:.3f})" if len(final) > 1 else "" for score in half.index}
        line = {
            "steps": str(steps),
            "recipe": recipe,
            "rate": f"{mean['learning_rate']:g}",
            "seeds": str(len(final)),
        }
        line |= {"self R²": f"{mean['r2_self']:.3f}{spread['r2_self']}"}
        line |= {
            "cross R²": f"{mean['r2_cross']:.3f}{spread['r2_cross']}",
            "least": f"{mean['r2_cross_least']:.3f}",
        }
        line |= {"co-fire proportion": f"{mean['cofire_proportion']:.3f}", "lift": f"{mean['lift_median']:.1f}"}
        line |= {"dead": f"{mean['dead']:.0f}", "encoder updates": str(final["encoder_updates"].iloc[0])}
        line |= {"dictionary updates": str(final["dictionary_updates"].iloc[0])}
        lines.append(line)
    return lines


def _lines(table: list[dict[str, str]]) -> str:
    """As Markdown; a cell that a line does not have is empty."""
    columns = list(dict.fromkeys(column for line in table for column in line))
    head = [columns, ["---"] * len(columns)]
    return "\n".join(
        f"| {' | '.join(cells)} |" for cells in [*head, *([line.get(c, "") for c in columns] for line in table)]
    )
