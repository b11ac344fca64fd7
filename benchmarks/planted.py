"""Where the recipe and the funnel fail on planted concepts: superposition, noise, and the number of models.

    python -m benchmarks.planted [--recipe levels tokens] [--world easy superposed] [--models 3 5]
                                 [--snr 10 30 100] [--rho 0.3]

Stage `planted` with the recipe of params.yaml (`levels`), or with one level of concepts that start at tokens
(`tokens`), in worlds of its own and over seeds that count from the run's. Rows
are appended to benchmarks/planted.csv as they come; what is there is not run again. Besides `measure.agreement`
other floors are asked of the trained codes. `--table` prints the file as Markdown, `--brief` the trained SAEs of
each world in one line. docs/planted.md is the reading.
"""

import argparse
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from usae.common.params import Params, load_params
from usae.evidence.planted.run import judged
from usae.evidence.planted.summary import CALLED_UNIVERSAL, OTHERS, PRECISION, TRACKED, summary
from usae.evidence.planted.trial import MATCHED
from usae.evidence.planted.verdicts import ALIKE, FUNNEL
from usae.evidence.planted.world import SHARED

TABLE = Path("benchmarks/planted.csv")
WORLDS: dict[tuple[str, int], dict[str, Any]] = {
    ("easy", 3): {
        "widths": (64, 80, 96), "shared": 16, "pairwise": 2, "most": 0, "private": 4, "twins": 4,
    },
    ("easy", 5): {
        "widths": (64, 72, 80, 88, 96), "shared": 16, "pairwise": 1, "most": 1, "private": 4, "twins": 2,
    },
    ("superposed", 3): {
        "widths": (24, 32, 40), "shared": 60, "pairwise": 10, "most": 0, "private": 15, "twins": 8,
    },
    ("superposed", 5): {
        "widths": (24, 28, 32, 36, 40), "shared": 60, "pairwise": 4, "most": 2, "private": 12, "twins": 8,
    },
}  # fmt: skip
SEARCH = {"easy": {"k": 4, "dictionary": 128}, "superposed": {"k": 6, "dictionary": 256}}
RECIPES: dict[str, dict[str, Any]] = {"levels": {}, "tokens": {"init": "paired", "sources": "one"}}
SCHEDULE = {"epochs": 10, "batch_images": 16, "learning_rate": 0.006}
COARSE = 4  # with levels: one concept in so many is coarse
FLOORS = (0.02, 0.05, 0.2, 0.3)  # of the smallest co-fire proportion
KEYS = ["recipe", "world", "models", "snr", "rho", "seeds"]
KEPT = {
    (TRACKED, "activity"): "tracked",
    ("agreed", "direction"): "agreed",
    (CALLED_UNIVERSAL, "dependent"): "dependent",
    (CALLED_UNIVERSAL, "significant"): "significant",
    (CALLED_UNIVERSAL, FUNNEL): "universal",
    (PRECISION, FUNNEL): "precision",
    (CALLED_UNIVERSAL, ALIKE): "alike",
    (PRECISION, ALIKE): "precision of alike",
}  # columns of the file, by quantity and rule
BRIEF = {
    "shared: tracked": (SHARED, "tracked"),
    "shared: agreed": (SHARED, "agreed"),
    "of these tracked, universal": (SHARED, "universal"),
    "others: tracked": (OTHERS, "tracked"),
    "of those tracked, universal": (OTHERS, "universal"),
    "universal codes that follow a shared concept": (SHARED, "precision"),
    "shared: alike": (SHARED, "alike"),
    "codes alike that follow a shared concept": (SHARED, "precision of alike"),
}  # titles of the brief table
ENDS = {"": "value", " low": "low", " high": "high", " of": "planted"}  # each with its interval


def main() -> None:
    """Run what is asked for and not yet in the table."""
    options = _options()
    torch.set_num_threads(options.threads)
    params = load_params()
    for values in () if options.table or options.brief else product(*(getattr(options, key) for key in KEYS)):
        keys = dict(zip(KEYS, values, strict=True))
        if not known(keys):
            append(rows(params, keys).assign(**keys))
    table = pd.read_csv(TABLE)
    print(brief(table, params.measure.agreement) if options.brief else markdown(table))


def rows(params: Params, keys: dict[str, Any]) -> pd.DataFrame:
    """One world: a row per floor, setting and kind."""
    concepts, codes = trials(params, keys)
    asked = wide(summary(concepts, codes)).assign(agreement=params.measure.agreement)
    trained = [frame[frame["setting"] == MATCHED] for frame in (concepts, codes)]
    at_floors = [
        wide(summary(*(above(frame, floor) for frame in trained))).assign(agreement=floor) for floor in FLOORS
    ]
    others = pd.concat(at_floors)
    return pd.concat([asked, others[others["kind"].isin([SHARED, OTHERS])]])


def trials(params: Params, keys: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Planted concepts and codes of all seeds, judged."""
    world = WORLDS[keys["world"], keys["models"]] | {"snr": keys["snr"], "rho": keys["rho"]}
    search = SEARCH[keys["world"]]
    planted = {
        **search,
        **SCHEDULE,
        "world": params.planted.world.model_copy(update=world),
        "seeds": keys["seeds"],
        "levels": (search["dictionary"] // COARSE,) if keys["recipe"] == "levels" else None,
    }
    sections = {
        "planted": params.planted.model_copy(update=planted),
        "train": params.train.model_copy(update=RECIPES[keys["recipe"]]),
    }
    return judged(params.model_copy(update=sections))


def above(frame: pd.DataFrame, floor: float) -> pd.DataFrame:
    """The same, with another floor in the funnel's agreement step."""
    return frame.assign(called_funnel=frame["called_significant"] & (frame["cofire_proportion_min"] >= floor))


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """A row per setting and kind: the quantities worth keeping, their intervals and how many were judged."""
    names = pd.Series(list(zip(table["quantity"], table["by"], strict=True)), index=table.index).map(KEPT)
    chosen = table[names.notna()].assign(name=names)
    pieces = [
        chosen.pivot(index=["setting", "kind"], columns="name", values=column).add_suffix(end)
        for end, column in ENDS.items()
    ]
    return pd.concat(pieces, axis=1).reset_index()


def known(keys: dict[str, Any]) -> bool:
    """Whether the table has that world."""
    if not TABLE.exists():
        return False
    table = pd.read_csv(TABLE)
    return bool((table[KEYS] == [keys[key] for key in KEYS]).all(axis=1).any())


def append(frame: pd.DataFrame) -> None:
    """Add rows to the table."""
    frame = frame[[*KEYS, *(column for column in frame if column not in KEYS)]]
    frame.to_csv(TABLE, mode="a", header=not TABLE.exists(), index=False, float_format="%.4g", lineterminator="\n")


def markdown(table: pd.DataFrame) -> str:
    """One row per world, floor, setting and kind."""
    keys = [*KEYS[:5], "agreement", "setting", "kind"]
    columns = list(KEPT.values())
    lines = [_line([*keys, *columns]), _line(["---"] * (len(keys) + len(columns)))]
    lines += [
        _line([*(row[key] for key in keys), *(_cell(row, column) for column in columns)])
        for row in table.to_dict("records")
    ]
    return "\n".join(lines)


def brief(table: pd.DataFrame, agreement: float) -> str:
    """A line per world: trained SAEs, judged with the floor `agreement`."""
    trained = table[(table["setting"] == MATCHED) & (table["agreement"] == agreement)]
    lines = [_line([*KEYS[:5], *BRIEF]), _line(["---"] * (5 + len(BRIEF)))]
    for keys, members in trained.groupby(KEYS[:5], sort=False):
        by_kind = {row["kind"]: row for row in members.to_dict("records")}
        lines.append(_line([*keys, *(_cell(by_kind[kind], column) for kind, column in BRIEF.values())]))
    return "\n".join(lines)


def _cell(row: dict[Any, Any], column: str) -> str:
    """Per cent, its interval, and of how many."""
    if not row[f"{column} of"] > 0:
        return ""
    low, value, high = (f"{100 * row[name]:.0f}" for name in (f"{column} low", column, f"{column} high"))
    return f"{value} ({low}-{high}) of {row[f'{column} of']:.0f}"


def _line(cells: list[Any]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--recipe", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--world", nargs="+", choices=list(SEARCH), default=list(SEARCH))
    parser.add_argument("--models", nargs="+", type=int, choices=[3, 5], default=[3, 5])
    parser.add_argument("--snr", nargs="+", type=float, default=[10.0, 30.0, 100.0])
    parser.add_argument("--rho", nargs="+", type=float, default=[0.3], help="how often twins come together")
    parser.add_argument("--seeds", nargs=1, type=int, default=[5])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print the table as Markdown")
    parser.add_argument("--brief", action="store_true", help="print the trained SAEs, a line per world")
    return parser.parse_args()


if __name__ == "__main__":
    main()
