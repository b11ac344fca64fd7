"""What a finished run knows of a concept, to stand beside it in one's own picture (`usae look`)."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from usae.common.layout import Layout
from usae.showing.explorer.album import Album
from usae.showing.results.run import Run


@dataclass
class Beside:
    """Labels, means and best images of concepts, as the tables of a run have them."""

    run: Run
    images: int
    album: Album = field(init=False)

    def __post_init__(self) -> None:
        report, extract = self.run.params.report, self.run.params.extract
        self.album = Album(self.run.index, report.thumbnail, extract.fit)
        tables = self.run.reports
        self._labels = tables["concepts"].set_index("concept_id")["top_label"].dropna().to_dict()
        self._means = tables["concept_models"].set_index(["concept_id", "model"])["mean_code"].to_dict()
        best = tables["exemplars"].query("ranking == 'mean'").sort_values("rank")
        self._best = best.groupby("concept_id")["image"].apply(list).to_dict()

    def label(self, concept: int) -> str:
        """Its best label, or nothing."""
        return str(self._labels.get(concept, ""))

    def mean(self, concept: int, model: str) -> float | None:
        """Mean code on the held-out images, zeros included."""
        value = self._means.get((concept, model))
        return None if value is None or pd.isna(value) else float(value)

    def photos(self, concept: int) -> list[str]:
        """Its best held-out images, as data URIs; none where it never fires."""
        return [self.album.photo(int(image)) for image in self._best.get(concept, [])[: self.images]]

    def link(self, concept: int, page: Path) -> str:
        """From `page` to the concept's card in the report, or nothing where there is no report."""
        report = Layout(self.run.root).reports / "index.html"
        if not report.is_file():
            return ""
        way = Path(os.path.relpath(report.resolve(), page.resolve().parent)).as_posix()
        return f"{way}#concept={concept}"
