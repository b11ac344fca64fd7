"""What single concepts say of known labels: the AUC of the best one for each label, chosen on other images."""

from collections.abc import Iterable, Sequence
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


def image_scores(encoded: Iterable[Sequence[CodeChunk]], images: int, concepts: int) -> Array:
    """(m, images, c) sums of codes over the tokens of each image; chunks of all models, image after image."""
    scores: Array | None = None
    first = 0
    for chunks in encoded:
        if scores is None:
            scores = np.zeros((len(chunks), images, concepts), np.float32)
        for own, chunk in zip(scores, chunks, strict=True):
            rows = np.repeat(np.arange(first, first + len(chunk.images)), chunk.indices[0].size)
            np.add.at(own, (rows, chunk.indices.ravel()), chunk.values.ravel())
        first += len(chunks[0].images)
    return np.zeros((0, images, concepts)) if scores is None else scores


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
