"""The tables of one run, read together: what the figures and the page are made of (stage `report`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pandas as pd

from usae.errors import UserError
from usae.tables import no_rows, read_table

REQUIRED = ("reconstruction", "concepts", "concept_models", "exemplars", "training")
OPTIONAL = (
    "probes",
    "nulls",
    "consistency",
    "planted",
    "planted_concepts",
    "controls",
    "funnel",
    "stitching",
    "onboarding",
    "control_concepts",
    "ood",
    "label_concepts",
    "maximisation",
)
PANELS = ("paper", "funnel", "controls", "alignment", "onboarding", "stitching", "ablation")


@dataclass(frozen=True)
class Reports:
    """One frame per table of `reports/` (columns: usae/tables.py); those in OPTIONAL may have no rows.

    `panels` holds those of PANELS that the run has.
    """

    reconstruction: pd.DataFrame
    concepts: pd.DataFrame
    concept_models: pd.DataFrame
    exemplars: pd.DataFrame
    training: pd.DataFrame
    probes: pd.DataFrame
    nulls: pd.DataFrame
    consistency: pd.DataFrame
    planted: pd.DataFrame
    planted_concepts: pd.DataFrame
    controls: pd.DataFrame
    funnel: pd.DataFrame
    stitching: pd.DataFrame
    onboarding: pd.DataFrame
    control_concepts: pd.DataFrame
    ood: pd.DataFrame
    label_concepts: pd.DataFrame
    maximisation: pd.DataFrame
    panels: Mapping[str, pd.DataFrame]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `folder`; UserError, naming all of them, when tables are missing."""
        if missing := [name for name in REQUIRED if not (folder / f"{name}.parquet").is_file()]:
            raise UserError.listing(
                f"The report needs tables that are not in {folder}; run `dvc repro` to write them:",
                [f"{name}.parquet" for name in missing],
            )
        frames = {name: read_table(folder / f"{name}.parquet") for name in REQUIRED}
        optional = {name: _optional(name, folder) for name in OPTIONAL}
        found = {name: folder / f"{name}.parquet" for name in PANELS}
        panels = {name: read_table(path) for name, path in found.items() if path.is_file()}
        return cls(**frames, **optional, panels=panels)


def _optional(name: str, folder: Path) -> pd.DataFrame:
    path = folder / f"{name}.parquet"
    return read_table(path) if path.is_file() else no_rows(name)
