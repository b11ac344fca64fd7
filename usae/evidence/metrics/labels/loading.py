"""What stage `measure` reads beside codes, activations and SAEs: labels, classes and probes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from usae.common.errors import UserError
from usae.common.files.json_files import read_json
from usae.common.types import Array
from usae.evidence.metrics.labels.labels import ImageLabels, Labels, TokenLabels
from usae.evidence.metrics.labels.tables import PROBES
from usae.images.pixels.index import ImageIndex


def load_labels(folder: Path, split: str, images: int) -> Labels | None:
    """Labels of the first `images` images: ground truth per token, else per image; None where there are none.

    Raises UserError when the truth is not of these images.
    """
    index = ImageIndex.load(folder / f"{split}.parquet")
    if len(index) < images:
        raise UserError(
            f"The codes of split {split} hold {images} images, the index in {folder} has {len(index)}."
            " Run `dvc repro encode`."
        )
    truth = folder / f"{split}_truth.npz"
    if truth.is_file():
        labels = TokenLabels.load(truth)
        if len(labels.coverage) != len(index):
            raise UserError(
                f"The ground truth {truth} describes {len(labels.coverage)} images, the index beside it has"
                f" {len(index)}. Run `dvc repro --force images`."
            )
        return labels
    classes = index.frame["label"].astype("Int64").fillna(-1).to_numpy(dtype=np.int64)
    return ImageLabels(index.label_names, classes) if index.label_names and (classes >= 0).any() else None


def load_classes(folder: Path, split: str, images: int) -> Array | None:
    """(images,) class of each image, -1 for none; None where no image has one.

    In the generated world it is the background, of which every image has one.
    """
    column = ImageIndex.load(folder / f"{split}.parquet").frame["label"].astype("Int64").fillna(-1)
    classes = column.to_numpy(dtype=np.int64)[:images]
    if (classes >= 0).any():
        return classes
    truth = folder / f"{split}_truth.npz"
    return one_of_each(TokenLabels.load(truth), images) if truth.is_file() else None


def one_of_each(labels: TokenLabels, images: int) -> Array | None:
    """(images,) which label of a group each image has, for the first group of which every image has just one.

    A group is what stands before the colon in a label's name; None where there is no such group.
    """
    present = np.asarray(labels.coverage[:images].any(axis=(1, 2)))  # (images, labels)
    groups = [name.split(":")[0] for name in labels.names]
    for group in dict.fromkeys(groups):
        members = present[:, [name == group for name in groups]]
        if members.shape[1] > 1 and (members.sum(axis=1) == 1).all():
            return np.asarray(members.argmax(axis=1))
    return None


def load_probes(weights: Path, models: Sequence[str]) -> pd.DataFrame:
    """Table `probes`, from `<weights>/<model>/probes.json` where stage `weights` has written one."""
    records = []
    for model in models:
        path = weights / model / "probes.json"
        if path.is_file():
            records += [{**record, "model": model} for record in _probes(path, model)]
    return pd.DataFrame(records, columns=PROBES.names)


def _probes(path: Path, model: str) -> list[dict[str, object]]:
    try:
        return list(read_json(path)["probes"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); run `dvc repro -f -s weights@{model}`.") from error
