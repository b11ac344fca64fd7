"""The tables of stage `compare`, opened: methods in the order of their blocks, and their numbers by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from usae.showing.results.reports import Reports

BOUNDS, FITTED, JOINT, PUBLISHED = BLOCKS = ("bounds", "without training", "joint", "as published")
END, TWIN, BEFORE, REPAIRED, RANDOM = "run", "twin", "start", "shuffled", "untrained"  # column run
SINGLE, OTHERS, ALL = MODES = ("single", "others", "joint")
REFERENCE, RIDGE = "usae", "ridge"
MISSING_TEXTS = ("form", "mode", "source", "target")
HEADLINE = ("", "calibrated")  # forms that stand for a method where one of several has to


@dataclass(frozen=True)
class ComparedMethod:
    """One row of the comparison: a method in one of its forms; `form` is empty where there is one."""

    block: str
    method: str
    form: str

    @property
    def label(self) -> str:
        """'hub (language)', 'sparc'."""
        form = self.form.removeprefix("hub-")
        return f"{self.method} ({form})" if form else self.method


@dataclass(frozen=True)
class Estimate:
    """A number; its 95 % interval over images, and with one model re-paired; NaN where there is none."""

    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    null: float = np.nan


Key = tuple[str, str, str, str, str]  # method, form, run, mode, measure
Cell = tuple[str, str, str, str, str]  # method, form, mode, source, target


@dataclass(frozen=True)
class Compared:
    """methods: by block, then in the order of table `methods`. estimates: what is of no pair of models. r2: of the
    run, source and target; source is empty in modes others and joint. funnel, sharing: those tables.
    """

    methods: tuple[ComparedMethod, ...]
    estimates: Mapping[Key, Estimate]
    r2: Mapping[Cell, float]
    funnel: pd.DataFrame
    sharing: pd.DataFrame

    @classmethod
    def of(cls, reports: Reports) -> Self:
        """From tables `methods`, `method_funnel` and `method_sharing`; without methods where they are absent."""
        funnel, sharing = reports["method_funnel"], reports["method_sharing"]
        table = reports["methods"]
        if table.empty:
            return cls((), {}, {}, funnel, sharing)
        table = table.fillna(dict.fromkeys(MISSING_TEXTS, "")).replace({"mode": {"": SINGLE}})
        funnel = funnel.fillna({"form": ""}) if len(funnel) else funnel
        of_pairs = (table["target"] != "") | (table["source"] != "")
        return cls(_methods(table), _estimates(table[~of_pairs]), _r2(table[of_pairs]), funnel, sharing)

    def estimate(self, of: ComparedMethod, measure: str, run: str = END, mode: str = SINGLE) -> Estimate:
        """One number of one method; all NaN where it was not measured."""
        return self.estimates.get((of.method, of.form, run, mode, measure), Estimate())

    def value(self, of: ComparedMethod, measure: str, run: str = END, mode: str = SINGLE) -> float:
        """The same without its interval."""
        return self.estimate(of, measure, run, mode).value

    def across(self, of: ComparedMethod, mode: str = SINGLE, run: str = END) -> float:
        """Mean R2 of models that are not (in mode joint: not alone) the encoded ones."""
        return self.value(of, "r2_cross_mean" if mode == SINGLE else "r2_mean", run, mode)

    def seeds(self, of: ComparedMethod, measure: str) -> list[float]:
        """The number from every start, the run's or its twin's first; those that were measured."""
        runs = [
            self.beside_controls(of),
            *sorted({key[2] for key in self.estimates if key[2].startswith("seed-")}),
        ]
        values = [self.value(of, measure, run) for run in runs]
        return [value for value in values if np.isfinite(value)]

    def beside_controls(self, of: ComparedMethod) -> str:
        """What other starts and nulls are compared with: the twin where they learnt less than the run, else the
        run.
        """
        return TWIN if np.isfinite(self.value(of, "shared", TWIN)) else END

    def beyond(self, of: ComparedMethod) -> float:
        """Shared concepts less the floor."""
        return self.value(of, "shared", self.beside_controls(of)) - self.floor(of)

    def floor(self, of: ComparedMethod) -> float:
        """Shared concepts before the first step or on re-paired images, whichever is more; NaN: neither asked."""
        floors = [self.value(of, "shared", run) for run in (BEFORE, REPAIRED)]
        return float(np.nanmax(floors)) if np.isfinite(floors).any() else np.nan

    def matrix(self, of: ComparedMethod, models: Sequence[str], mode: str = SINGLE) -> np.ndarray:
        """R2 of the run: (source, target) in mode single, else (1, target); NaN where not measured."""
        sources = list(models) if mode == SINGLE else [""]
        cells = [[self.r2.get((of.method, of.form, mode, s, t), np.nan) for t in models] for s in sources]
        return np.asarray(cells, dtype=np.float64)

    def steps(self, of: ComparedMethod, run: str = END) -> dict[str, int]:
        """Concepts that pass each step of the funnel and all before it; empty where it was not asked."""
        if self.funnel.empty:
            return {}
        named = (self.funnel["method"] == of.method) & (self.funnel["form"] == of.form)
        rows = self.funnel[named & (self.funnel["run"] == run)]
        return dict(zip(rows["step"].astype(str), rows["concepts"].astype(int).tolist(), strict=True))

    def named(self, method: str) -> ComparedMethod | None:
        """The method of this name; of several forms the headline, else the first. None: it was not compared."""
        forms = [each for each in self.methods if each.method == method]
        return next((each for each in forms if each.form in HEADLINE), forms[0] if forms else None)

    @property
    def reference(self) -> ComparedMethod | None:
        """The universal SAE."""
        return self.named(REFERENCE)

    @property
    def ridge(self) -> ComparedMethod | None:
        """The linear ceiling."""
        bounds = [each for each in self.methods if each.block == BOUNDS]
        return next((each for each in bounds if RIDGE in (each.method, each.form)), None)

    def ceiling(self, mode: str = SINGLE) -> float:
        """Mean cross R2 of ridge in this mode; NaN where there is none."""
        return self.across(self.ridge, mode) if self.ridge else np.nan


def _methods(table: pd.DataFrame) -> tuple[ComparedMethod, ...]:
    rows = table[["block", "method", "form"]].drop_duplicates(["method", "form"])
    found = [ComparedMethod(*map(str, row)) for row in rows.itertuples(index=False)]
    return tuple(sorted(found, key=lambda each: BLOCKS.index(each.block)))


def _estimates(table: pd.DataFrame) -> dict[Key, Estimate]:
    keys = table[["method", "form", "run", "mode", "measure"]].astype(str).itertuples(index=False, name=None)
    values = table[["value", "low", "high", "null"]].astype(float).itertuples(index=False, name=None)
    return {key: Estimate(*numbers) for key, numbers in zip(keys, values, strict=True)}


def _r2(table: pd.DataFrame) -> dict[Cell, float]:
    rows = table[(table["measure"] == "r2") & (table["run"] == END)]
    keys = rows[["method", "form", "mode", "source", "target"]].astype(str).itertuples(index=False, name=None)
    return dict(zip(keys, rows["value"].astype(float).tolist(), strict=True))
