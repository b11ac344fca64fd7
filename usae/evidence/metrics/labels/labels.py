"""Which known label goes with each concept (stage `measure`).

In a generated world labels lie on tokens: a cell carries a label when about half of its pixels do. Elsewhere
the label of an image lies on all its tokens, and unlabelled images are left out.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, Self
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from scipy import sparse

from usae.common.errors import UserError
from usae.common.types import Array

COVERED = 127
MOST = 3  # labels of a concept
DAMAGED = (OSError, ValueError, LookupError, EOFError, NotImplementedError, BadZipFile, zlib.error)


class Labels(Protocol):
    """Labels of tokens, whatever their source."""

    @property
    def names(self) -> tuple[str, ...]:
        """Name of every label."""
        ...

    def matrix(self, images: Array, tokens: int) -> tuple[Array, sparse.csr_array]:
        """(rows,) which of the images * tokens rows are labelled, and their (rows, labels) of 0 and 1."""
        ...


@dataclass(frozen=True)
class TokenLabels:
    """Ground truth per cell: `coverage` (images, grid, grid, labels) uint8, pixel share of 255."""

    names: tuple[str, ...]
    coverage: Array

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a `data/images/<split>_truth.npz`; UserError when it is damaged."""
        try:
            with np.load(path) as truth:
                return cls(tuple(str(name) for name in truth["names"]), truth["coverage"])
        except DAMAGED as error:
            raise UserError(f"{path} is damaged ({error}); run `dvc repro -f -s images`.") from error

    def matrix(self, images: Array, tokens: int) -> tuple[Array, sparse.csr_array]:
        """See `Labels`; truth on another grid than the codes is averaged over the area of each token."""
        grid = round(tokens**0.5)
        share = _overlaps(self.coverage.shape[1], grid)  # (grid of codes, grid of truth)
        covered = np.einsum("yr,xc,brcl->byxl", share, share, self.coverage[images], optimize=True) > COVERED
        rows = covered.reshape(len(images) * tokens, len(self.names))  # (images * tokens, labels)
        return np.arange(len(rows)), sparse.csr_array(rows.astype(np.int32))


@dataclass(frozen=True)
class ImageLabels:
    """One label per image on all its tokens: `labels` (images,) is the number of the label, -1 for none."""

    names: tuple[str, ...]
    labels: Array

    def matrix(self, images: Array, tokens: int) -> tuple[Array, sparse.csr_array]:
        """See `Labels`."""
        spread = np.repeat(self.labels[images], tokens)  # (images * tokens)
        rows = np.flatnonzero(spread >= 0)
        ones = np.ones(len(rows), dtype=np.int32)
        shape = (len(rows), len(self.names))
        return rows, sparse.csr_array((ones, (np.arange(len(rows)), spread[rows])), shape=shape)


def carried_by_images(labels: Labels, images: Array, tokens: int) -> tuple[Array, sparse.csr_array]:
    """Which of `images` are labelled, (n,) as positions, and their (n, labels) of 0 and 1.

    An image carries what one of its tokens carries.
    """
    rows, carried = labels.matrix(images, tokens)
    labelled, group = np.unique(rows // tokens, return_inverse=True)
    gather = sparse.csr_array((np.ones(len(rows)), (group, np.arange(len(rows)))), (len(labelled), len(rows)))
    return labelled, sparse.csr_array((gather @ carried) > 0, dtype=np.int32)


class Profile(NamedTuple):
    """Labels under the fires of concepts, models summed.

    joint (c, labels): fires on tokens with the label; fires (c,). base (labels,): share of tokens with the label;
    reach (labels,): fires of a concept that fires in all models on all of them.
    """

    joint: Array
    fires: Array
    base: Array
    reach: Array

    @property
    def precision(self) -> Array:
        """(c, labels) fires on tokens with the label / all fires of the concept; 0 without fires."""
        return np.asarray(self.joint / np.maximum(self.fires, 1)[:, None])

    @property
    def recall(self) -> Array:
        """(c, labels) fires on tokens with the label / such tokens, each once per model; 0 without any."""
        return np.asarray(self.joint / np.maximum(self.reach, 1))

    @property
    def iou(self) -> Array:
        """(c, labels) fires on tokens with the label / fires or such tokens; 0 without either."""
        either = self.fires[:, None] + self.reach - self.joint
        return np.asarray(self.joint / np.maximum(either, 1))


def best_labels(labels: Sequence[str], choosing: Profile, judging: Profile) -> pd.DataFrame:
    """Table `concept_labels`: each concept's labels of the largest IoU in `choosing`, numbers of `judging`.

    Only labels that are more frequent on its fires than elsewhere, and concepts that fire in both profiles.
    """
    alive = (choosing.fires > 0) & (judging.fires > 0)
    carried = alive[:, None] & (choosing.precision > choosing.base)  # (concepts, labels)
    ranked = np.where(carried, -choosing.iou, np.inf).argsort(axis=1, kind="stable")[:, :MOST]
    concept, rank = np.nonzero(np.take_along_axis(carried, ranked, axis=1))
    label = ranked[concept, rank]
    return pd.DataFrame(
        {
            "concept_id": concept,
            "rank": rank,
            "label": np.array(labels, dtype=object)[label],
            "precision": judging.precision[concept, label],
            "recall": judging.recall[concept, label],
            "iou": judging.iou[concept, label],
            "base": judging.base[label],
        }
    )


def top_labels(best: pd.DataFrame, concepts: int) -> pd.DataFrame:
    """(c rows) top_label, top_label_share, top_label_base: the first of `best_labels`; null without one."""
    first = best[best["rank"] == 0].set_index("concept_id").reindex(range(concepts))
    names = first["label"].astype(object)
    return pd.DataFrame(
        {
            "top_label": names.where(names.notna(), None),
            "top_label_share": first["precision"],
            "top_label_base": first["base"],
        }
    ).reset_index(drop=True)


def absent_labels(concepts: int) -> pd.DataFrame:
    """The label columns of a data set without labels: all null."""
    nothing = np.full(concepts, np.nan)
    return pd.DataFrame(
        {"top_label": np.full(concepts, None), "top_label_share": nothing, "top_label_base": nothing}
    )


def _overlaps(old: int, new: int) -> Array:
    """(new, old) weights that average `old` intervals into `new` ones; the identity where equal."""
    start, lower = np.arange(new)[:, None] * old, np.arange(old) * new  # in units of 1 / (old * new)
    overlap = np.minimum(start + old, lower + new) - np.maximum(start, lower)  # (new, old)
    return np.asarray(np.clip(overlap, 0, None) / old)
