"""A finished run, opened from its folder: what figures, page and notebooks are made of (stage `report`).

run = Run.load()   # in the repository's root
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from usae.common.errors import UserError
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

        Raises:
            UserError: there is no run, or parts of it are missing; the command that makes them is named.
        """
        root = Path(root)
        if not (root / "data/images/val.parquet").is_file():
            raise UserError(f"There is no finished run in '{root.resolve()}'; run `dvc repro` there first.")
        params = params or load_params(root / "params.yaml")
        images = root / (params.images.path or ".")
        return cls(
            root=root,
            params=params,
            reports=Reports.load(root / "reports"),
            index=ImageIndex.load(root / "data/images/val.parquet", images),
            codes=open_codes(root / "data/codes/val", params.models),
        )

    @property
    def maximised(self) -> Path:
        """The folder of maximised pictures; it may be absent."""
        return self.root / "data/maximised"

    def usae(self) -> UniversalSAE:
        """The universal SAE, on the CPU."""
        return UniversalSAE.from_pretrained(self.root / "data/usae")
