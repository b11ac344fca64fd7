"""Which known label goes with each concept (stage `measure`).

In a generated world labels lie on tokens: a cell carries a label when about half of its pixels do. Elsewhere
the label of an image lies on all its tokens, and unlabelled images are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import pandas as pd
from scipy import sparse

from usae.common.types import Array
from usae.evidence.codes.store import CodeChunk

COVERED = 127


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
        """Read a `data/images/<split>_truth.npz`."""
        with np.load(path) as truth:
            return cls(tuple(str(name) for name in truth["names"]), truth["coverage"])

    def matrix(self, images: Array, tokens: int) -> tuple[Array, sparse.csr_array]:
        """See `Labels`; truth on another grid than the codes is averaged over the area of each token."""
        grid = round(tokens**0.5)
        share = _overlaps(self.coverage.shape[1], grid)  # (grid of codes, grid of truth)
        covered = np.einsum("yr,xc,brcl->byxl", share, share, self.coverage[images], optimize=True) > COVERED
        rows = covered.reshape(len(images) * tokens, -1)  # (images * tokens, labels)
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
    """Which of `images` are labelled, (n,) places, and their (n, labels) of 0 and 1.

    An image carries what one of its tokens carries.
    """
    rows, carried = labels.matrix(images, tokens)
    places, group = np.unique(rows // tokens, return_inverse=True)
    gather = sparse.csr_array((np.ones(len(rows)), (group, np.arange(len(rows)))), (len(places), len(rows)))
    return places, sparse.csr_array((gather @ carried) > 0, dtype=np.int32)


@dataclass
class LabelCounts:
    """Counts over labelled tokens; a fire is one (token, model) pair, models are summed.

    `joint` (c, labels): fires on tokens with the label; `fires` (c,); `present` (labels,): tokens with it.
    """

    labels: Labels
    concepts: int
    threshold: float
    tokens: int = 0
    joint: Array = field(init=False)
    fires: Array = field(init=False)
    present: Array = field(init=False)

    def __post_init__(self) -> None:
        self.joint = np.zeros((self.concepts, len(self.labels.names)), dtype=np.int64)
        self.fires = np.zeros(self.concepts, dtype=np.int64)
        self.present = np.zeros(len(self.labels.names), dtype=np.int64)

    def update(self, codes: Sequence[CodeChunk]) -> None:
        """Add one chunk: the codes of every model for the same images."""
        rows, labels = self.labels.matrix(codes[0].images, codes[0].indices.shape[1])
        firing = _firing(codes, self.concepts, self.threshold)[rows]  # (rows, concepts)
        joint = (firing.T @ labels).tocoo()
        self.joint[joint.row, joint.col] += joint.data
        self.fires += np.asarray(firing.sum(axis=0)).ravel()
        self.present += np.asarray(labels.sum(axis=0)).ravel()
        self.tokens += len(rows)

    def merge(self, other: Self) -> None:
        """Add the counts of other images."""
        self.joint += other.joint
        self.fires += other.fires
        self.present += other.present
        self.tokens += other.tokens

    def frame(self) -> pd.DataFrame:
        """(c rows) top_label, top_label_share, top_label_base; null for concepts that never fire.

        share = fires on tokens with the label / all fires of the concept; base = tokens with the label / all
        labelled tokens; the top label has the largest share - base, the first of equals.
        """
        alive = (self.fires > 0) & bool(self.present.any())
        if not alive.any():
            return absent_labels(self.concepts)
        base = self.present / self.tokens  # (labels,)
        share = self.joint / np.maximum(self.fires, 1)[:, None]  # (concepts, labels)
        best = (share - base).argmax(axis=1)  # (concepts,)
        names = np.array(self.labels.names, dtype=object)[best]
        shares = share[np.arange(self.concepts), best]
        return pd.DataFrame(
            {
                "top_label": np.where(alive, names, None),
                "top_label_share": np.where(alive, shares, np.nan),
                "top_label_base": np.where(alive, base[best], np.nan),
            }
        )


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


def _firing(codes: Sequence[CodeChunk], concepts: int, threshold: float) -> sparse.csr_array:
    """(images * tokens, c): how many models fire."""
    tokens = codes[0].tokens
    rows, columns = [], []
    for chunk in codes:
        fired = chunk.values.reshape(tokens, -1) > np.float32(threshold)  # (tokens, k)
        rows.append(np.nonzero(fired)[0])
        columns.append(chunk.indices.reshape(tokens, -1)[fired].astype(np.int64))
    row, column = np.concatenate(rows), np.concatenate(columns)
    return sparse.csr_array((np.ones(len(row), dtype=np.int32), (row, column)), shape=(tokens, concepts))
