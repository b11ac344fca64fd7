"""What single concepts say of known labels: the AUC of the best one for each label, chosen on other images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from usae.common.types import Array
from usae.evidence.codes.store import CodeChunk

FEWEST = 10  # images with a label, in each half
MOST_IMAGES = 2000  # whose scores are kept


@dataclass(frozen=True)
class LabelledImages:
    """images (n,): numbers of labelled images, increasing. present (n, labels) bool: what they carry."""

    images: Array
    present: Array

    @classmethod
    def some(cls, images: Array, present: Array) -> "LabelledImages":
        """At most MOST_IMAGES, evenly over all."""
        kept = np.unique(np.linspace(0, len(images) - 1, min(MOST_IMAGES, len(images))).astype(np.int64))
        return cls(images[kept], present[kept])


class ImageScores:
    """Sums of codes over the tokens of some images: `scores` (m, n, c). images (n,): their numbers, increasing."""

    def __init__(self, models: int, images: Array, concepts: int) -> None:
        self.images, self.scores = images, np.zeros((models, len(images), concepts), np.float32)

    def update(self, chunks: Sequence[CodeChunk]) -> None:
        """Add a chunk of all models; images that are not asked for are passed over."""
        places = np.searchsorted(self.images, chunks[0].images)
        wanted = np.flatnonzero(self.images.take(places, mode="clip") == chunks[0].images)
        concepts = self.scores.shape[2]
        for own, chunk in zip(self.scores, chunks, strict=True):
            indices, values = (part[wanted].reshape(len(wanted), -1) for part in (chunk.indices, chunk.values))
            cells = np.arange(len(wanted))[:, None] * concepts + indices.astype(np.int64)
            sums = np.bincount(cells.ravel(), values.ravel(), len(wanted) * concepts)
            own[places[wanted]] = sums.reshape(-1, concepts)


def label_auc(scores: Array, present: Array) -> float:
    """Mean over labels and models of the AUC of a label's best concept, chosen on every second image and judged on
    the others; NaN where no label has enough images. scores (m, n, c), present (n, labels).
    """
    chosen_by = np.arange(len(present)) % 2 == 0
    enough = (present[chosen_by].sum(0) >= FEWEST) & (present[~chosen_by].sum(0) >= FEWEST)
    enough &= (~present[chosen_by]).any(0) & (~present[~chosen_by]).any(0)
    if not enough.any() or not scores.shape[2]:
        return float("nan")
    best = [roc_aucs(own[chosen_by], present[chosen_by][:, enough]).argmax(axis=0) for own in scores]
    judged = [roc_aucs(own[~chosen_by], present[~chosen_by][:, enough]) for own in scores]
    columns = np.arange(int(enough.sum()))
    return float(np.mean([aucs[which, columns] for which, aucs in zip(best, judged, strict=True)]))


def roc_aucs(scores: Array, present: Array) -> Array:
    """(c, labels) chance that an image with the label outranks one without, ties counting half.

    scores (n, c), present (n, labels): every label on some images and not on all.
    """
    positives = present.sum(axis=0)  # (labels,)
    ranks = rankdata(scores, axis=0).T @ present  # (c, labels)
    return np.asarray((ranks - positives * (positives + 1) / 2) / (positives * (len(present) - positives)))
