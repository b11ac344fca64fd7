"""How much of model j's activations model i's codes reconstruct (stage `measure`; arXiv 2502.03714, Fig. 5).

Sums run over the whole set in float64, never as means of batches. Moments about the mean are merged with the
update of Chan, Golub and LeVeque (1983), so a large mean does not eat the digits of the variance.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
import pandas as pd

from usae.activations.store import Moments
from usae.common.types import Array, Pair

Centre = Literal["scalar", "channel", "none"]
BLOCK_TOKENS = 4096


@dataclass
class Residuals:
    """Sum of squared differences between activations and their reconstruction."""

    elements: int = 0
    squared: float = 0.0

    def update(self, activations: Array, reconstruction: Array) -> None:
        """Add activations and reconstruction, both [..., d] in the same units."""
        for target, guess in zip(_blocks(activations), _blocks(reconstruction), strict=True):
            difference = np.subtract(target, guess, dtype=np.float64).ravel()
            self.squared += float(difference @ difference)
        self.elements += activations.size

    def merge(self, other: Self) -> None:
        """Add the residuals of other tokens."""
        self.squared += other.squared
        self.elements += other.elements

    @property
    def mse(self) -> float:
        """Mean squared error per token and channel."""
        return self.squared / self.elements if self.elements else float("nan")


@dataclass
class Reconstruction:
    """The full table of one split: residuals of every (source, target) pair, moments of every target."""

    sae: str
    split: str
    residuals: dict[tuple[str, str], Residuals] = field(default_factory=dict)
    moments: dict[str, Moments] = field(default_factory=dict)

    def update(self, target: str, activations: Array, reconstructions: Iterable[tuple[str, Array]]) -> None:
        """Add activations [..., d] of `target` and, per source model, their reconstruction [..., d]."""
        for rows in _blocks(activations):
            self._add(target, Moments.of(rows))
        for source, reconstruction in reconstructions:
            self.residuals.setdefault((source, target), Residuals()).update(activations, reconstruction)

    def merge(self, other: Self) -> None:
        """Add the sums of other images of the same split."""
        for target, moments in other.moments.items():
            self._add(target, moments)
        for pair, residuals in other.residuals.items():
            self.residuals.setdefault(pair, Residuals()).merge(residuals)

    def rows(self, models: Sequence[str]) -> list[Mapping[str, object]]:
        """Rows of `reconstruction.parquet`, sources and targets in the order of `models`."""
        pairs = [(source, target) for source in models for target in models]
        return [self._row(*pair) for pair in pairs if pair in self.residuals]

    def _add(self, target: str, moments: Moments) -> None:
        earlier = self.moments.get(target)
        self.moments[target] = earlier.merge(moments) if earlier else moments

    def _row(self, source: str, target: str) -> Mapping[str, object]:
        residuals, moments = self.residuals[source, target], self.moments[target]
        return {
            "sae": self.sae,
            "source": source,
            "target": target,
            "split": self.split,
            "r2_scalar": r2(residuals, moments, "scalar"),
            "r2_channel": r2(residuals, moments, "channel"),
            "mse": residuals.mse,
            "tokens": moments.count,
        }


@dataclass(frozen=True)
class Ceilings:
    """R2 of linear maps between models on held-out tokens.

    ridge, rank_k: by source and target, of any rank and of the codes' k; others: by target, from all other models.
    """

    ridge: Mapping[Pair, float] = field(default_factory=dict)
    rank_k: Mapping[Pair, float] = field(default_factory=dict)
    others: Mapping[str, float] = field(default_factory=dict)


def r2(residuals: Residuals, moments: Moments, centre: Centre = "scalar", epsilon: float = 0.0) -> float:
    """Coefficient of determination, 1 - residual / total sum of squares, over everything added.

    `centre` is what the total is taken about: "scalar", one mean over tokens and channels (the authors' code,
    which also adds `epsilon` = 1e-6 to the mean square), "channel", the channel means (variance-weighted R2),
    or "none", 0. NaN when the total is 0.
    """
    if not residuals.elements:
        return float("nan")
    total = _total(moments, centre) / residuals.elements + epsilon
    return 1 - residuals.mse / total if total > 0 else float("nan")


def with_ceilings(table: pd.DataFrame, ceilings: Ceilings) -> pd.DataFrame:
    """Table `reconstruction` with the columns of `ceilings`, and `r2_of_ridge`, on the held-out rows."""
    pairs = list(zip(table["source"], table["target"], strict=True))
    values = {
        "r2_ridge": [ceilings.ridge.get(pair, np.nan) for pair in pairs],
        "r2_rank_k": [ceilings.rank_k.get(pair, np.nan) for pair in pairs],
        "r2_ridge_others": [ceilings.others.get(target, np.nan) for _, target in pairs],
    }
    columns = pd.DataFrame(values, index=table.index, dtype=np.float64).where(table["split"] == "val")
    share = table["r2_channel"] / columns["r2_ridge"].where(columns["r2_ridge"] > 0)
    return table.join(columns).assign(r2_of_ridge=share)


def _total(moments: Moments, centre: Centre) -> float:
    """Total sum of squares about one scalar mean, about the channel means, or about 0."""
    about_channels = float(moments.m2.sum())
    if centre == "channel":
        return about_channels
    origin = float(moments.mean.mean()) if centre == "scalar" else 0.0
    return about_channels + moments.count * float(((moments.mean - origin) ** 2).sum())


def _blocks(activations: Array) -> Iterator[Array]:
    """Activations [..., d] as blocks of rows (tokens, d), small enough to widen to float64."""
    rows = activations.reshape(-1, activations.shape[-1])
    return (rows[start : start + BLOCK_TOKENS] for start in range(0, len(rows), BLOCK_TOKENS))
