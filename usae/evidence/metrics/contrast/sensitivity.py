"""How the counts hang on their thresholds, and on the images that were counted (stage `contrast`)."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from usae.evidence.controls.names import beside_controls
from usae.evidence.metrics.contrast.measured import HeldOut
from usae.evidence.metrics.contrast.tables import REPEATED
from usae.evidence.metrics.funnel import SHARED_STEPS, Thresholds, asked_steps, control_bar, passed

OTHERS = {  # threshold -> values tried; the run's own stands among them
    "agreement": (0.02, 0.05, 0.1, 0.2, 0.3),
    "support": (20, 50, 100),
    "bar": (0.9, 0.95, 0.99, 1.0),
    "matched": (0.5, 0.6, 0.7, 0.8, 0.9),
}
FIRING = (0.5, 1.0, 2.0)  # thresholds of firing; the run's own stands above


def sensitivity_frame(
    opened: Mapping[bool, HeldOut], concepts: pd.DataFrame, stability: pd.DataFrame, models: int, asked: Thresholds
) -> pd.DataFrame:
    """Table `sensitivity`; `opened`: the universal SAE, or its twin, after training and (True) before it."""
    rows: list[dict[str, object]] = []
    for name, values in OTHERS.items():
        for value in sorted({*values, getattr(asked, name)}):
            thresholds: Thresholds = replace(asked, **{name: value})
            rows += _counts(concepts, stability, models, thresholds, name, value)
    bar = control_bar(concepts, models, asked.bar)
    for value in FIRING:
        for start, held_out in opened.items():
            found = held_out.counted(np.arange(held_out.images), value)
            rows.append(_row("threshold", value, start, found, stability, models, bar, asked))
    return pd.DataFrame(rows)


def repeated_frame(
    opened: Mapping[bool, HeldOut], concepts: pd.DataFrame, models: int, asked: Thresholds
) -> pd.DataFrame:
    """Table `repeated`: what passes on every second held-out image, and of that on the others, which chose
    nothing.
    """
    bar = control_bar(concepts, models, asked.bar)
    rows = []
    for start, held_out in opened.items():
        images = np.arange(held_out.images)
        halves = [held_out.counted(images[offset::2], held_out.params.threshold) for offset in range(2)]
        for chosen, fresh in ((0, 1), (1, 0)):
            steps = [asked_steps(halves[half], None, models, bar, asked) for half in (chosen, fresh)]
            for last in range(2, len(steps[0])):
                mine, theirs = (passed(part[: last + 1]) for part in steps)
                counts = int(mine.sum()), int((mine & theirs).sum()), float(theirs.mean())
                rows.append([start, ("even", "odd")[chosen], steps[0][last].name, *counts])
    return pd.DataFrame(rows, columns=REPEATED.names[:-1]).assign(
        share=lambda frame: frame["repeated"] / frame["concepts"].where(frame["concepts"] > 0)
    )


def _counts(
    concepts: pd.DataFrame, stability: pd.DataFrame, models: int, thresholds: Thresholds, name: str, value: float
) -> Iterator[dict[str, object]]:
    bar = control_bar(concepts, models, thresholds.bar)
    for start, rows in concepts[concepts["run"] == beside_controls(set(concepts["run"]))].groupby("start"):
        yield _row(name, value, bool(start), rows, stability, models, bar, thresholds)


def _row(
    name: str,
    value: float,
    start: bool,
    rows: pd.DataFrame,
    stability: pd.DataFrame,
    models: int,
    bar: float | None,
    thresholds: Thresholds,
) -> dict[str, object]:
    own = stability["run"] == beside_controls(set(stability["run"]))
    matches = stability[own & (stability["start"] == start)]
    steps = asked_steps(rows, matches, models, bar, thresholds)
    shared = passed([step for step in steps if step.name in SHARED_STEPS])
    return {
        "threshold": name, "value": float(value), "start": start, "shared": int(shared.sum()),
        "universal": int(passed(steps).sum()),
    }  # fmt: skip
