"""The comparison of methods as a table in Markdown, with the range over seeds: docs/comparison.md.

    python -m benchmarks.comparison [REPORTS ...]

REPORTS: folders in which stage `compare` wrote its tables; that of this checkout where none is named.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from usae.common.tables import descriptions, read_table
from usae.showing.comparison.verdicts import CROSS, SHARED, verdict
from usae.showing.results.compared import BEFORE, MODES, REPAIRED, SINGLE, Compared, ComparedMethod
from usae.showing.results.reports import Reports

TABLES = ("methods", "method_funnel", "method_sharing")
HEADER = ("method", "self R²", "cross R²", "others, joint", "shared (start; re-paired)", "AUC", "GFLOP", "verdict")


def main() -> None:
    """Print the table of each folder under its name."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.comparison", description=__doc__.splitlines()[0])
    parser.add_argument("reports", nargs="*", type=Path, default=[Path("reports")])
    for folder in parser.parse_args().reports:
        print(f"{folder}\n\n{table(opened(folder))}\n")


def opened(folder: Path) -> Compared:
    """The tables of stage `compare` alone."""
    files = {name: folder / f"{name}.parquet" for name in TABLES}
    frames = {name: read_table(file) for name, file in files.items()}
    return Compared.of(Reports(frames, {name: descriptions(pq.read_schema(file)) for name, file in files.items()}))


def table(compared: Compared) -> str:
    """A row for each method and form."""
    rows = [HEADER, ["---"] * len(HEADER), *(row(compared, method) for method in compared.methods)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def row(compared: Compared, method: ComparedMethod) -> list[str]:
    """What the table says of one method; a cell is empty where a number was not measured."""
    floors = [compared.value(method, SHARED, run) for run in (BEFORE, REPAIRED)]
    shared = over_seeds(compared.seeds(method, SHARED), "{:.0f}")
    named = [f"{floor:.0f}" if np.isfinite(floor) else "-" for floor in floors]
    return [
        method.label,
        over_seeds(compared.seeds(method, "r2_self_mean")),
        over_seeds(compared.seeds(method, CROSS)),
        ", ".join(filter(None, (number(compared.across(method, mode)) for mode in MODES if mode != SINGLE))),
        f"{shared} ({'; '.join(named)})" if shared else "",
        number(compared.value(method, "label_auc")),
        number(compared.value(method, "gflop"), "{:.0f}"),
        verdict(compared, method).text,
    ]


def over_seeds(values: Sequence[float], form: str = "{:.3f}") -> str:
    """The mean, and the range where there are several."""
    if not values:
        return ""
    mean = number(float(np.mean(values)), form)
    ends = [number(end, form) for end in (min(values), max(values))]
    return f"{mean} ({ends[0]} to {ends[1]})" if len(values) > 1 else mean


def number(value: float, form: str = "{:.3f}") -> str:
    """'.394', '-.02'; nothing where there is none."""
    return re.sub(r"^(-?)0\.", r"\1.", form.format(value)) if np.isfinite(value) else ""


if __name__ == "__main__":
    main()
