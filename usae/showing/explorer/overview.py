"""The page's first screen: the numbers that matter, what ran, and the reconstruction table (stage `report`)."""

import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq

from usae.common.layout import Layout
from usae.common.params import Params
from usae.showing.figures.matrix import ALONE, r2_matrix
from usae.showing.figures.theme import MISSING, percent
from usae.showing.results.reports import Reports

KINDS = {"train": "training", "val": "held-out"}  # images, by split
REASONS = 3  # why images were left out, the commonest
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
class LeftOut:
    """How many of the images that were found a split's index leaves out, why, and its path in the run."""

    kind: str
    images: int
    found: int
    reasons: str
    index: str


@dataclass(frozen=True)
class R2Row:
    """One source model: R² of every target, and of SAEs of it alone (`ALONE`); NaN where not measured."""

    model: str
    values: tuple[float, ...]
    alone: tuple[float, ...]


def tiles(reports: Reports, models: Sequence[str]) -> list[Tile]:
    """The two means of the R\u00b2 matrix, each beside that of the start, and what linear maps reach."""
    table = reports["reconstruction"]
    own, across = _own_and_across(r2_matrix(table, models, "usae"))
    own_before, across_before = _own_and_across(r2_matrix(table, models, "start"))
    found = [
        _r2_tile(own, own_before, "of a model's held-out variance is explained by its own codes (mean R\u00b2)"),
        _r2_tile(across, across_before, "of it is explained by the codes of another model (mean R\u00b2)"),
    ]
    if "r2_ridge" in table:
        _, ceiling = _own_and_across(r2_matrix(table, models, "usae", "r2_ridge"))
        found.append(
            _r2_tile(
                ceiling, np.nan, "of it is explained by the best linear map from another model (mean R\u00b2)"
            )
        )
    return found


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


def left_out(root: Path) -> list[LeftOut]:
    """What the indexes of a run leave out, for the splits that lack something."""
    indexes = {kind: Layout(root).images / f"{split}.parquet" for split, kind in KINDS.items()}
    missing = {kind: _faults(index) for kind, index in indexes.items() if index.is_file()}
    return [
        LeftOut(kind, len(faults), found, _reasons(faults), str(indexes[kind].relative_to(root)))
        for kind, (faults, found) in missing.items()
        if faults
    ]


def _faults(index: Path) -> tuple[list[str], int]:
    """The reasons of all images that the index leaves out, and how many images it lists."""
    faults = pq.read_table(index, columns=["fault"], filters=pc.field("fault").is_valid())
    return faults["fault"].to_pylist(), pq.read_metadata(index).num_rows


def _reasons(faults: Sequence[str]) -> str:
    """'the file is empty (2), ..., other reasons (4)'."""
    common = Counter(faults).most_common(REASONS)
    if others := len(faults) - sum(count for _, count in common):
        common.append(("other reasons", others))
    return ", ".join(f"{why} ({count})" for why, count in common)


def r2_rows(reconstruction: pd.DataFrame, models: Sequence[str]) -> list[R2Row]:
    """The R² matrix as rows of a table."""
    matrix = r2_matrix(reconstruction, models, "usae")
    alone = np.stack([np.diag(r2_matrix(reconstruction, models, sae)) for sae in ALONE], axis=1)  # (models, saes)
    return [
        R2Row(model, tuple(map(float, values)), tuple(map(float, own)))
        for model, values, own in zip(models, matrix, alone, strict=True)
    ]


def _git(root: Path, *command: str) -> str:
    try:
        run = subprocess.run(["git", *command], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git here
        return ""
    return run.stdout.strip()


def _own_and_across(matrix: np.ndarray) -> tuple[float, float]:
    return _mean(np.diag(matrix)), _mean(matrix[~np.eye(len(matrix), dtype=bool)])


def _r2_tile(value: float, before: float, meaning: str) -> Tile:
    """Below 0 there is no share: the mean of the tokens says more than the codes."""
    start = f"; before the first step {_short(before)}" if np.isfinite(before) else ""
    if value < 0:
        return Tile("worse than the mean", f"R\u00b2 {_short(value)}: nothing {meaning}{start}")
    return Tile(percent(value) if np.isfinite(value) else MISSING, f"{meaning}{start}")


def _short(value: float) -> str:
    return percent(value) if value >= 0 else f"\u2212{-value:.2f}"


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")
