"""The tables of one run, read together: what the figures and the page are made of (stage `report`)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import pandas as pd
import pyarrow.parquet as pq

from usae.common.errors import UserError
from usae.common.tables import descriptions, read_table

REQUIRED = ("reconstruction", "concepts", "concept_models", "exemplars", "training")


@dataclass(frozen=True)
class Reports:
    """`reports["concepts"]`: a frame per table of `reports/`; one that the run has not written has no rows.

    frames: by the table's name. descriptions: of a table's columns, as its file holds them.
    """

    frames: Mapping[str, pd.DataFrame]
    descriptions: Mapping[str, Mapping[str, str]]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `folder`; UserError, naming all of them, when tables of REQUIRED are missing."""
        files = {file.stem: file for file in sorted(folder.glob("*.parquet"))}
        if missing := [name for name in REQUIRED if name not in files]:
            raise UserError.listing(
                f"The report needs tables that are not in {folder}; run `dvc repro` to write them:",
                [f"{name}.parquet" for name in missing],
            )
        frames = {name: read_table(file) for name, file in files.items()}
        return cls(frames, {name: descriptions(pq.read_schema(file)) for name, file in files.items()})

    def __getitem__(self, name: str) -> pd.DataFrame:
        """The table's rows; none, and no columns, where the run has not written it."""
        return self.frames.get(name, pd.DataFrame())

    def __contains__(self, name: str) -> bool:
        """Whether the run has written the table."""
        return name in self.frames

    def having(self, **frames: pd.DataFrame) -> Self:
        """The same with other rows in some tables."""
        return replace(self, frames={**self.frames, **frames})
