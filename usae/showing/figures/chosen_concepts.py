"""Pictures of chosen concepts of a finished run: heatmaps on images, maximised pictures (paper Fig. 4 and Fig. 8).

From the command line: `usae figures heatmaps 12 40` (usae/showing/commands/figures.py).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from usae.common.errors import UserError
from usae.showing.figures.concept_grid import grid_picture
from usae.showing.figures.maximised_grid import maximised_grid
from usae.showing.figures.theme import Picture, percent
from usae.showing.maximisation.pictures import picture_path, read_picture
from usae.showing.results.choice import Choice, checked_concepts, of_different_kinds, shared_concepts
from usae.showing.results.examples import concept_examples, sketch_of, thumbnails
from usae.showing.results.run import Run

THUMBNAIL = 96  # pixels
CONCEPTS, IMAGES = 4, 6  # of the README's picture


def universal_picture(run: Run) -> Picture:
    """The README's picture: a few universal concepts of different kinds."""
    candidates = shared_concepts(run.reports["concepts"], run.params.report.concepts)
    chosen = of_different_kinds(candidates, run.reports["concepts"], CONCEPTS)
    return _grid(run, chosen, IMAGES)


def heatmap_picture(run: Run, concepts: Sequence[int], images: int = IMAGES) -> Picture:
    """Concepts on their best images, one row of heatmaps per model (paper Fig. 4).

    Raises:
        UserError: concepts that the dictionary does not have; all are listed.
    """
    checked = checked_concepts(concepts, run.reports["concepts"], "The list of concepts")
    return replace(_grid(run, [Choice(concept) for concept in checked], images), name="heatmaps")


def maximised_picture(run: Run, concepts: Sequence[int] = ()) -> Picture:
    """Maximised pictures, a row per concept and a column per model (paper Fig. 8); by default all there are.

    Raises:
        UserError: concepts that the dictionary does not have, or that were not maximised; all are listed.
    """
    table = run.reports["maximisation"]
    own = table.query("kind == 'concept' and start == 0 and model == scored_by") if len(table) else table
    maximised = [int(concept) for concept in own["concept_id"].unique()] if len(own) else []
    wanted = checked_concepts(concepts or maximised, run.reports["concepts"], "The list of concepts")
    if missing := [concept for concept in wanted if concept not in maximised]:
        also = ",".join(map(str, dict.fromkeys([*run.params.maximise.also, *missing])))
        raise UserError(
            f"There are no maximised pictures of {', '.join(map(str, missing))}; there are of "
            f"{', '.join(map(str, maximised)) or 'none'}. To add them: "
            f"dvc exp run -S 'maximise.also=[{also}]' maximise"
        )
    paths = {(c, m): picture_path(run.maximised, str(c), m) for c in wanted for m in run.params.models}
    pictures = {key: np.asarray(read_picture(path)) for key, path in paths.items()}
    columns = [own[name].tolist() for name in ("concept_id", "model", "percentile")] if len(own) else [[], [], []]
    percentiles = {(concept, model): value for concept, model, value in zip(*columns, strict=True)}
    return maximised_grid(wanted, run.params.models, pictures, percentiles, titles(run, wanted))


def titles(run: Run, concepts: Sequence[int]) -> list[str]:
    """'concept 12, shape: star, agreement 31 %' for each."""
    table = run.reports["concepts"].set_index("concept_id")
    return [_title(concept, table.loc[concept]) for concept in concepts]


def _grid(run: Run, chosen: Sequence[Choice], images: int) -> Picture:
    fit = run.params.extract.fit

    def photos(rows: Sequence[int]) -> np.ndarray:
        return thumbnails(run.index, rows, THUMBNAIL, fit)

    def sketch(row: int) -> np.ndarray:
        return sketch_of(photos([row])[0])

    examples = concept_examples(chosen, run.reports["exemplars"], run.codes, images, sketch)
    concepts = titles(run, [choice.concept for choice in chosen])
    return grid_picture(examples, [photos(example.images) for example in examples], concepts)


def _title(concept: int, row: Any) -> str:
    label = "" if pd.isna(row["top_label"]) else str(row["top_label"])
    share = row["cofire_proportion_min"]
    agreement = "" if pd.isna(share) else f"agreement {percent(float(share))}"
    return ", ".join(filter(None, [f"concept {concept}", label, agreement]))
