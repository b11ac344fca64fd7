"""The page's first screen: the numbers that matter, what ran, and the reconstruction table (stage `report`)."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from usae.common.params import Params
from usae.showing.figures.funnel import run_counts
from usae.showing.figures.matrix import ALONE, r2_matrix
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
    """One source model: R² of every target, and of SAEs of it alone (`ALONE`); NaN where not measured."""

    model: str
    values: tuple[float, ...]
    alone: tuple[float, ...]


def tiles(reports: Reports, images: int, models: Sequence[str]) -> list[Tile]:
    """Shared concepts and those found again, median lift, the two means of the R² matrix, alive concepts."""
    concepts, least = reports["concepts"], support(reports["concepts"])
    alive, shared = int(concepts["alive"].sum()), int((concepts["cofires"] >= least).sum())
    supported = concepts.loc[concepts["cofires"] >= least, "lift"].dropna()
    matrix = r2_matrix(reports["reconstruction"], models, "usae")
    own, across = _own_and_across(matrix)
    own_before, across_before = map(
        _before, _own_and_across(r2_matrix(reports["reconstruction"], models, "start"))
    )
    tokens = int(concepts["tokens"].max()) if len(concepts) else 0
    together = f"fire in all {len(models)} models at once on {least}+ tokens"
    lift = f"{supported.median():,.1f} \u00d7" if len(supported) else MISSING
    return [
        *(_funnel_tiles(reports["funnel"]) or [Tile(f"{shared:,}", f"of {alive:,} alive concepts {together}")]),
        Tile(lift, f"as often as chance would have it: the median co-firing of the {shared:,} that {together}"),
        Tile(own, f"of a model's held-out variance explained by its own codes (mean R²){own_before}"),
        Tile(across, f"explained by the codes of another model (mean R²){across_before}"),
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
    alone = np.stack([np.diag(r2_matrix(reconstruction, models, sae)) for sae in ALONE], axis=1)  # (models, saes)
    return [
        R2Row(model, tuple(map(float, values)), tuple(map(float, own)))
        for model, values, own in zip(models, matrix, alone, strict=True)
    ]


def _funnel_tiles(funnel: pd.DataFrame) -> list[Tile]:
    """How many concepts all models share, and how many of them come back, where that was asked."""
    run, start = (run_counts(funnel, before) for before in (False, True))
    if run is None:
        return []
    before = "" if start is None else f"; before the first step {start.shared:,}"
    shared = [Tile(f"{run.shared:,}", f"of {run.alive:,} alive concepts are shared by all models{before}")]
    if run.again is None:
        return shared
    before = "" if start is None or start.again is None else f"; before the first step {start.again:,}"
    again = f"of these come back in both halves of the images: called universal{before}"
    return [*shared, Tile(f"{run.again:,}", again)]


def _git(root: Path, *command: str) -> str:
    try:
        run = subprocess.run(["git", *command], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git here
        return ""
    return run.stdout.strip()


def _own_and_across(matrix: np.ndarray) -> tuple[str, str]:
    return _mean(np.diag(matrix)), _mean(matrix[~np.eye(len(matrix), dtype=bool)])


def _before(mean: str) -> str:
    """What to add to a mean; nothing where the start was not measured."""
    return "" if mean == MISSING else f"; before the first step {mean}"


def _mean(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    return percent(float(finite.mean())) if finite.size else MISSING
