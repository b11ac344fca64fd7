"""The folder `data/maximised`: one picture per target, model and start (alpha = attribution), and the curves.

Written by stage `maximise`, read by `report`: `12/MODEL.png` is concept 12, `12/MODEL.1.png` the same from another
start, `random-0/MODEL.png` a random direction; `curves.parquet` is table `maximisation_curves`.
"""

from pathlib import Path

import pandas as pd
from PIL import Image

from usae.common.errors import UserError
from usae.common.tables import read_table

CURVES = "curves.parquet"
HIGH_PERCENTILE = 99.0  # of the scores of real images, which a picture should exceed


def read_curves(folder: Path) -> pd.DataFrame:
    """The curves, or an empty frame where nothing was maximised."""
    path = folder / CURVES
    return read_table(path) if path.is_file() else pd.DataFrame(columns=["kind", "concept_id", "start", "model"])


def picture_path(folder: Path, target: str, model: str, start: int = 0) -> Path:
    """Where the picture of a target for a model lies; no slug has the dot before the start."""
    return folder / target / f"{model}{f'.{start}' if start else ''}.png"


def read_picture(path: Path) -> Image.Image:
    """A picture of stage `maximise`; UserError when it is missing or damaged."""
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"The picture {path} is damaged ({error}); run `dvc repro -f -s maximise`.") from error
