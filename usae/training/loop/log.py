"""The log of a training run: a row a step, kept as columns, part of the checkpoint, shown while it grows.

Stages `train` and `baselines`: `reports/training.parquet`, and its curve `reports/plots/training.csv`. A run that
was resumed has the same rows, bit for bit, as one that was not.
"""

import math
import time
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from usae.common.files.whole import write_output
from usae.common.runtime.tracker import Tracker

POINTS = 200  # of the curve
IDLE = 50  # times as long as one showing takes, until the next one: at most 2 % of a run

Value = int | float | str


class TrainingLog:
    """Rows of numbers (8 bytes each) and names; the first row gives the columns and their types.

    curve: file rewritten every `seconds` while rows arrive (None: not shown). track: told at the same times, for
    every number and source, the mean over the rows since (`runtime.tracker`).
    """

    def __init__(self, curve: Path | None = None, seconds: float = 10.0, track: Tracker | None = None) -> None:
        self.columns: dict[str, array[Any] | list[str]] = {}
        self.curve, self.seconds, self.track = curve, seconds, track
        self.told = 0
        self.next = time.monotonic() + seconds

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def append(self, row: Mapping[str, Value]) -> None:
        """Add a row with columns `step`, `source`, `loss` and any others, always the same ones.

        Raises:
            ValueError: its columns are not those of the first row.
        """
        if not self.columns:
            self.columns = {name: _column(value) for name, value in row.items()}
        if row.keys() != self.columns.keys():
            raise ValueError(f"A row should have the columns {list(self.columns)}, found {list(row)}.")
        for name, column in self.columns.items():
            column.append(row[name])  # type: ignore[arg-type]  # an array refuses what is not of its type
        if time.monotonic() >= self.next:
            self.show()

    def frame(self) -> pd.DataFrame:
        """All rows."""
        return pd.DataFrame({name: _values(column) for name, column in self.columns.items()})

    def state(self) -> dict[str, Any]:
        """All rows, for a checkpoint."""
        return {name: _packed(column) for name, column in self.columns.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the rows of `state()` in place of one's own; the tracker is not told them again."""
        self.columns = {name: _unpacked(column) for name, column in state.items()}
        self.told = len(self)

    def show(self) -> None:
        """Write the curve and tell the tracker: from time to time, and when the caller saves or is done."""
        started = time.monotonic()
        if len(self) and (self.curve or self.track):
            rows = self.frame()
            if self.curve is not None:
                write_curve(rows, self.curve)
            if self.track is not None and len(rows) > self.told:
                self.track(int(rows["step"].iloc[-1]), _means(rows.iloc[self.told :]))
                self.told = len(rows)
        now = time.monotonic()
        self.next = now + max(self.seconds, IDLE * (now - started))


def write_curve(rows: pd.DataFrame, path: Path, points: int = POINTS) -> None:
    """The loss by source, averaged over stretches of steps (columns step, source, loss); for `dvc plots`."""
    stretch = max(1, math.ceil(len(rows) / points))
    grouped = rows.assign(step=rows["step"] // stretch * stretch).groupby(["step", "source"], as_index=False)
    curve = pd.DataFrame(grouped["loss"].mean())
    write_output(path, curve.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode())


def _means(rows: pd.DataFrame) -> dict[str, float]:
    """{'loss/vit': ...} for every column of numbers and every source."""
    means = rows.drop(columns="step").groupby("source").mean(numeric_only=True)
    return {f"{name}/{source}": mean for name, column in means.items() for source, mean in column.items()}


def _column(value: Value) -> "array[Any] | list[str]":
    return [] if isinstance(value, str) else array("d" if isinstance(value, float) else "q")


def _values(column: "array[Any] | list[str]") -> Any:
    return column if isinstance(column, list) else np.array(column)


def _packed(column: "array[Any] | list[str]") -> Any:
    """A tensor; names as the list of different ones and their numbers, since millions of strings load slowly."""
    if not isinstance(column, list):
        return torch.from_numpy(np.array(column))
    codes, names = pd.factorize(np.array(column, dtype=object))
    return {"names": [str(name) for name in names], "codes": torch.from_numpy(codes)}


def _unpacked(column: Any) -> "array[Any] | list[str]":
    if isinstance(column, dict):
        return [column["names"][code] for code in column["codes"].tolist()]
    values = column.numpy()
    return array("d" if values.dtype.kind == "f" else "q", values.tobytes())
