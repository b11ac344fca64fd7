"""Do concepts that fire in all models also carry most energy? (stage `measure`; arXiv 2502.03714)

Pearson correlation and slope of log10(energy) on log10(co-fires). Much of it is mechanical: streams that are
independent token by token, but agree on rates, correlate as strongly. So it stands beside the correlation
with the rates partialled out, and that of energy with lift.
"""

from dataclasses import dataclass

import numpy as np

from usae.common.types import Array

SMALLEST = 3


@dataclass(frozen=True)
class LogFit:
    """Pearson r and least-squares slope over `concepts` concepts; NaN below three or without any spread."""

    r: float
    slope: float
    concepts: int


def log_fit(x: Array, y: Array, above: float = 0) -> LogFit:
    """Fit log10(y) on log10(x) over the concepts with x > `above` and y > 0; x and y are (c,)."""
    chosen = (x > max(above, 0)) & (y > 0)
    return _fit(np.log10(x[chosen]), np.log10(y[chosen]))


def partial_fit(cofires: Array, energies: Array, fires: Array) -> LogFit:
    """Fit of log10(energy) on log10(co-fires) after both are regressed on the sum of log10 f_ik over models.

    `cofires`, `energies` (c,), `fires` (m, c); over the concepts with co-fires.
    """
    chosen = (cofires > 0) & (energies > 0)
    rates = np.log10(fires[:, chosen]).sum(axis=0)  # (chosen,)
    x, y = np.log10(cofires[chosen]), np.log10(energies[chosen])
    return _fit(_residual(x, rates), _residual(y, rates))


def _fit(x: Array, y: Array) -> LogFit:
    count = len(x)
    if count < SMALLEST:
        return LogFit(np.nan, np.nan, count)
    dx, dy = x - x.mean(), y - y.mean()
    xx, yy, xy = float(dx @ dx), float(dy @ dy), float(dx @ dy)
    if min(xx, yy) < 1e-12 * count:
        return LogFit(np.nan, np.nan, count)
    return LogFit(xy / np.sqrt(xx * yy), xy / xx, count)


def _residual(y: Array, x: Array) -> Array:
    """What a straight line in x leaves of y."""
    if len(x) < SMALLEST:
        return y
    dx = x - x.mean()
    spread = float(dx @ dx)
    slope = float(dx @ (y - y.mean())) / spread if spread > 0 else 0.0
    return np.asarray(y - y.mean() - slope * dx)
