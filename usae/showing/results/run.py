"""A finished run, opened from its folder: what figures, page and notebooks are made of (stage `report`).

run = Run.load()   # in the repository's root
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from usae.common.errors import UserError
from usae.common.layout import Layout
from usae.common.params import Params, load_params
from usae.evidence.codes.store import CodeStore, open_codes
from usae.images.pixels.index import ImageIndex
from usae.sae.universal import UniversalSAE
from usae.showing.results.reports import Reports


@dataclass(frozen=True)
class Run:
    """Settings, tables, held-out images and their codes, and the folder `root` they come from."""

    root: Path
    params: Params
    reports: Reports
    index: ImageIndex
    codes: Mapping[str, CodeStore]

    @classmethod
    def load(cls, root: str | Path = ".", params: Params | None = None) -> Self:
        """The run in `root`, with its own params.yaml unless `params` are given.

        A run of which tables are absent opens all the same, but for those of `reports.REQUIRED`.

        Raises:
            UserError: there is no run, or parts of it are missing; the command that makes them is named.
        """
        layout = Layout(Path(root))
        index = layout.images / "val.parquet"
        if not index.is_file():
            raise UserError(f"There is no finished run in '{layout.root.resolve()}'; run `dvc repro` there first.")
        params = params or load_params(layout.root / "params.yaml")
        return cls(
            root=layout.root,
            params=params,
            reports=Reports.load(layout.reports),
            index=ImageIndex.load(index, layout.root / (params.images.path or ".")),
            codes=open_codes(layout.codes("val"), params.models),
        )

    @property
    def maximised(self) -> Path:
        """The folder of maximised pictures; it may be absent."""
        return Layout(self.root).maximised

    def usae(self) -> UniversalSAE:
        """The universal SAE, on the CPU."""
        return UniversalSAE.from_pretrained(Layout(self.root).usae)
