"""The page's first numbers in sentences: what the models share, what comes back, what training adds (stage
`report`)."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from usae.evidence.controls.names import HALF, RUN, SEED, TWIN
from usae.evidence.verdict.levels import is_readable
from usae.showing.figures.funnel import FunnelCounts, run_counts
from usae.showing.figures.theme import percent
from usae.showing.names import run_name
from usae.showing.results.reports import Reports

COUNTED = {
    "agreed": "concepts on which the models agree",
    "shared": "shared concepts",
    "universal": "concepts that come back",
}
NOTHING = "training adds nothing that this interval can tell from 0"


def story(reports: Reports, models: Sequence[str]) -> list[str]:
    """Sentences from tables `funnel` and `controls`; none where these are absent, or the run is not readable."""
    run, start = (run_counts(reports["funnel"], before) for before in (False, True))
    if run is None or not is_readable(reports["verdict"]):
        return []
    controls = reports["controls"]
    return [_shared(run, len(models)), *_start(start), *_added(controls), *_elsewhere(controls)]


def added(name: str, value: float, low: float, high: float) -> str:
    """What training adds to a count; where its interval contains 0, that this is nothing it can tell from 0.

    The rule is asked of the ends as they are printed, with one decimal. NaN: there is no interval.
    """
    if not math.isfinite(low + high):
        return f"Training adds {_plain(value)} {name}; over the images this was not resampled"
    interval = f"95 % interval {_plain(low)} to {_plain(high)}"
    if round(low, 1) <= 0 <= round(high, 1):
        return f"The difference is {_plain(value)} {name} ({interval}): {NOTHING}"
    return f"Training adds {_plain(value)} {name} ({interval})"


def _shared(run: FunnelCounts, models: int) -> str:
    agreement = f" (median agreement {percent(run.agreement)})" if run.shared else ""
    again = "" if run.again is None else f"; {run.again:,} of them come back in both halves of the images"
    return f"All {models} models {run.verb} {run.shared:,} concepts{agreement}{again}"


def _start(start: FunnelCounts | None) -> list[str]:
    if start is None:
        return []
    again = "" if start.again is None else f" and {start.again:,}"
    return [f"Before the first step it is {start.shared:,}{again}"]


def _added(controls: pd.DataFrame) -> list[str]:
    if controls.empty:
        return []
    own: Any = controls[controls["run"] == RUN].set_index("measure")
    return [
        added(name, *own.loc[measure, ["adds", "adds_low", "adds_high"]].astype(float))
        for measure, name in COUNTED.items()
        if measure in own.index and pd.notna(own.loc[measure, "adds"])
    ]


def _elsewhere(controls: pd.DataFrame) -> list[str]:
    """The same difference in the run's twin and SAEs of other seeds and of halves: the interval over images knows
    nothing of it.
    """
    if controls.empty:
        return []
    again = controls[controls["run"].str.startswith((TWIN, SEED, HALF)) & (controls["measure"] == "shared")]
    names = again["run"].map(run_name)
    differences = [f"{_plain(adds)} ({name})" for name, adds in zip(names, again["adds"], strict=True)]
    return [f"In further SAEs, in shared concepts: {', '.join(differences)}"] if differences else []


def _plain(value: float) -> str:
    """-0.025 -> '0', 9.025 -> '9', 0.475 -> '0.5'."""
    return f"{round(value, 1):z.4g}".replace("-", "\u2212")
