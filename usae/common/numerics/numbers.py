"""Flat numbers by name, rounded so that the last bits do not make a difference in git."""

import numpy as np

from usae.common.types import Array

DIGITS = 6
Numbers = dict[str, float | None]


def rounded(value: float) -> float | None:
    """Six significant digits, so that the last bits do not make a difference in git; None for NaN."""
    if isinstance(value, int):
        return value
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None


def median(values: Array) -> float:
    """Median of the values that are defined; NaN where none is."""
    defined = values[~np.isnan(values)]
    return float(np.median(defined)) if len(defined) else float("nan")
