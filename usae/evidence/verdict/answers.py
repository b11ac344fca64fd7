"""What a question about a finished run finds: its level, the number, the bar, a sentence, and what to do."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from usae.activations.store.manifests import Manifest
from usae.evidence.controls.names import RUN
from usae.evidence.verdict.levels import CAUTION, READABLE


@dataclass(frozen=True)
class Answer:
    """A row of table `verdict`. value: NaN where the question was not asked, or has no number."""

    question: str
    level: str
    asked: bool
    value: float
    bar: float
    reason: str
    advice: str


@dataclass(frozen=True)
class Evidence:
    """Manifests in the order of the models, and tables by name, as far as there are any."""

    manifests: Mapping[str, Manifest]
    tables: Mapping[str, pd.DataFrame]

    def __getitem__(self, name: str) -> pd.DataFrame:
        """The table's rows; none, and no columns, where it was not written."""
        return self.tables.get(name, pd.DataFrame())

    def measured(self, run: str, measure: str, column: str = "value") -> float:
        """A cell of table `controls`; NaN where it is not there."""
        controls = self["controls"]
        if controls.empty:
            return math.nan
        cells = controls.loc[(controls["run"] == run) & (controls["measure"] == measure), column]
        return float(cells.iloc[0]) if len(cells) and pd.notna(cells.iloc[0]) else math.nan

    def shared(self, start: bool = False) -> float:
        """How many concepts the run shares, or its start; NaN where that was not counted."""
        return self.measured(RUN, "shared", "start" if start else "value")


def answered(question: str, level: str, number: tuple[float, float], reason: str, advice: str) -> Answer:
    """Of a question that was asked; `number`: value and bar. Where the bar is met there is nothing to do."""
    return Answer(question, level, True, *number, reason, "" if level == READABLE else advice)


def unasked(question: str, reason: str, advice: str) -> Answer:
    """Nobody looked, which is no good sign and no bad one."""
    return Answer(question, CAUTION, False, math.nan, math.nan, f"Not asked: {reason}", advice)


def worse(missed: bool, level: str) -> str:
    """`level` where the bar is missed."""
    return level if missed else READABLE


def r2_text(value: float) -> str:
    """What is explained: 0.394 -> '39 %'; below 0 a share would have no meaning."""
    return share_text(value) if value >= 0 else f"less than the mean does (R\u00b2 \u2212{-value:.2f})"


def share_text(share: float) -> str:
    """0.314 -> '31 %'."""
    return f"{share:.0%}".replace("%", " %")


def slugs_text(models: Sequence[str]) -> str:
    """'`a`, `b` and `c`'."""
    quoted = [f"`{model}`" for model in models]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)
