"""The page's first screen: the numbers that matter, what ran, and the reconstruction table (stage `report`)."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from usae.common.params import Params
from usae.evidence.controls.names import RUN
from usae.showing.figures.matrix import r2_matrix
from usae.showing.figures.theme import MISSING, percent
from usae.showing.results.choice import support
from usae.showing.results.reports import Reports

CODE = ("usae", "pipeline", "params.yaml", "dvc.yaml")


@dataclass(frozen=True)
class Tile:
    """One number of the summary, and what it is a share or a mean of."""

    value: str
    meaning: str


@dataclass(frozen=True)
class ZooRow:
    """One model as configured."""

    model: str
    backbone: str
    weights: str
    layer: str


@dataclass(frozen=True)
class R2Row:
    """One source model: R² of every target, and of its own independent SAE; NaN where not measured."""

    model: str
    values: tuple[float, ...]
    alone: float


def tiles(reports: Reports, images: int, models: Sequence[str]) -> list[Tile]:
    """Alive and shared concepts, median lift, and the two means of the R² matrix."""
    concepts, least = reports["concepts"], support(reports["concepts"])
    alive, shared = int(concepts["alive"].sum()), int((concepts["cofires"] >= least).sum())
    supported = concepts.loc[concepts["cofires"] >= least, "lift"].dropna()
    matrix = r2_matrix(reports["reconstruction"], models, "usae")
    own, across = _mean(np.diag(matrix)), _mean(matrix[~np.eye(len(models), dtype=bool)])
    tokens = int(concepts["tokens"].max()) if len(concepts) else 0
    lift = f"{supported.median():,.1f} \u00d7" if len(supported) else MISSING
    return [
        *_universal_tile(reports["funnel"]),
        Tile(
            f"{shared:,}",
            f"of {alive:,} alive concepts fire in all {len(models)} models at once on {least}+ tokens",
        ),
        Tile(lift, "as often as chance would have it: the median co-firing of these"),
        Tile(own, "of a model's held-out variance explained by its own codes (mean R²)"),
        Tile(across, "explained by the codes of another model (mean R²)"),
        Tile(f"{alive:,}", f"of {len(concepts):,} concepts fire on {images:,} held-out images, {tokens:,} tokens"),
    ]


def code_version(root: Path) -> str:
    """The last commit that touched code or settings, and whether they differ from it; a dash outside git.

    Outputs and dvc.lock do not count, so that committing a run does not change its page.
    """
    commit = _git(root, "log", "-1", "--format=%h, %cs", "--", *CODE)
    changed = _git(root, "status", "--porcelain", "--", *CODE)
    return (commit + (", with local changes" if changed else "")) if commit else MISSING


def models_table(params: Params) -> list[ZooRow]:
    """What each slug stands for."""
    rows = []
    for model in params.models:
        entry = params.zoo[model]
        name = entry.backbone.timm or entry.backbone.factory or MISSING
        layer = f"{entry.layer}{', after the final norm' if entry.norm else ''}"
        rows.append(ZooRow(model, name, entry.backbone.weights, layer))
    return rows


def r2_rows(reconstruction: pd.DataFrame, models: Sequence[str]) -> list[R2Row]:
    """The R² matrix as rows of a table."""
    matrix = r2_matrix(reconstruction, models, "usae")
    alone = np.diag(r2_matrix(reconstruction, models, "independent"))
    return [
        R2Row(model, tuple(float(value) for value in values), float(own))
        for model, values, own in zip(models, matrix, alone, strict=True)
    ]


def _universal_tile(funnel: pd.DataFrame) -> list[Tile]:
    """How many concepts pass the whole funnel, where it was asked."""
    own = funnel[funnel["run"] == RUN] if len(funnel) else funnel
    if own.empty:
        return []
    meaning = f"of {int(own['concepts'].iloc[0]):,} alive concepts pass every step of the funnel: called universal"
    return [Tile(f"{int(own['concepts'].iloc[-1]):,}", meaning)]


def _git(root: Path, *command: str) -> str:
    try:
        run = subprocess.run(["git", *command], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git here
        return ""
    return run.stdout.strip()


def _mean(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    return percent(float(finite.mean())) if finite.size else MISSING
