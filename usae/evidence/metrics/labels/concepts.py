"""How well concepts agree with known labels, model by model (stage `measure`).

Overlap and ranking per token, purity of the strongest images, and the weighted Jaccard of the models' label
profiles (SPARC, arXiv 2507.06265). That last one is high without any alignment where labels differ in frequency:
read it beside the same measure of untrained networks. The best of many concepts or labels is chosen on one half of
the images and judged on the other. Everything streams over codes.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import combinations
from typing import Self

import numpy as np
import pandas as pd
from scipy import sparse

from usae.common.types import Array
from usae.evidence.codes.rows import code_rows, fired_rows
from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.labels.labels import Labels, Profile, best_labels, top_labels

DROPPED_BITS = 5  # of a float16 code: codes within 3 % of each other rank as ties
BINS = 2**15 >> DROPPED_BITS
CHOOSING, JUDGING = 0, 1  # parity of an image's number
STRONGEST = 50  # images behind the purity of a concept (SPARC)


@dataclass
class LabelFires:
    """Fires of m models' concepts on labelled tokens.

    joint (m, c, labels): fires on tokens with the label; fires (m, c); present (labels,): tokens with it.
    """

    labels: Labels
    models: int
    concepts: int
    threshold: float
    tokens: int = 0
    joint: Array = field(init=False)
    fires: Array = field(init=False)
    present: Array = field(init=False)

    def __post_init__(self) -> None:
        self.joint = np.zeros((self.models, self.concepts, len(self.labels.names)), dtype=np.int32)
        self.fires = np.zeros((self.models, self.concepts), dtype=np.int64)
        self.present = np.zeros(len(self.labels.names), dtype=np.int64)

    def update(self, codes: Sequence[CodeChunk]) -> None:
        """Add one chunk: the codes of every model, in order, for the same images."""
        tokens = codes[0].indices.shape[1]
        rows, labels = self.labels.matrix(codes[0].images, tokens)
        firing = [fired_rows(chunk, self.concepts, self.threshold)[rows] for chunk in codes]
        self.tokens += labels.shape[0]
        carried = labels.astype(np.int32)
        self.present += np.asarray(carried.sum(axis=0)).ravel()
        for model, fired in enumerate(firing):
            joint = (fired.astype(np.int32).T @ carried).tocoo()
            self.joint[model, joint.row, joint.col] += joint.data
            self.fires[model] += np.asarray(fired.astype(np.int64).sum(axis=0)).ravel()

    def merge(self, other: Self) -> None:
        """Add the counts of other images."""
        self.tokens += other.tokens
        self.joint += other.joint
        self.fires += other.fires
        self.present += other.present

    def iou(self, model: int, labels: Array | slice = slice(None)) -> Array:
        """(c, labels) of a model: tokens with fire and label over those with either; NaN where neither is."""
        joint = self.joint[model][:, labels]
        return _share(joint, self.fires[model][:, None] + self.present[labels] - joint)

    @property
    def profile(self) -> Profile:
        """Fires of each concept, models summed, and how frequent the labels are."""
        base = self.present / max(self.tokens, 1)
        return Profile(self.joint.sum(axis=0), self.fires.sum(axis=0), base, self.models * self.present)


@dataclass
class LabelHalves:
    """Fires of all models on labelled tokens of two halves of the images.

    choosing: images with even numbers, by which the best of many is chosen; judging: odd ones, which judge it.
    """

    choosing: LabelFires
    judging: LabelFires

    @classmethod
    def none(cls, labels: Labels, models: int, concepts: int, threshold: float) -> Self:
        """Nothing counted yet."""
        return cls(*(LabelFires(labels, models, concepts, threshold) for _ in range(2)))

    @property
    def whole(self) -> LabelFires:
        """Both halves, where nothing is chosen."""
        both = deepcopy(self.choosing)
        both.merge(self.judging)
        return both

    def update(self, codes: Sequence[CodeChunk]) -> None:
        """Add one chunk: the codes of every model, in order, for the same images."""
        self.choosing.update([half(chunk, CHOOSING) for chunk in codes])
        self.judging.update([half(chunk, JUDGING) for chunk in codes])

    def merge(self, other: Self) -> None:
        """Add the counts of other images."""
        self.choosing.merge(other.choosing)
        self.judging.merge(other.judging)

    def best_labels(self) -> pd.DataFrame:
        """Table `concept_labels`, models summed; see `labels.best_labels`."""
        return best_labels(self.choosing.labels.names, self.choosing.profile, self.judging.profile)

    def top_labels(self) -> pd.DataFrame:
        """The label columns of table `concepts`."""
        return top_labels(self.best_labels(), self.choosing.concepts)


def half(codes: CodeChunk, parity: int) -> CodeChunk:
    """The codes of the images whose number is even (CHOOSING) or odd (JUDGING)."""
    kept = codes.images % 2 == parity
    return CodeChunk(codes.images[kept], codes.indices[kept], codes.values[kept])


@dataclass(frozen=True)
class Agreement:
    """Weighted Jaccard of label profiles between models, a mean over concepts.

    alive: over the concepts that fire in two models or more; every: over all, where others count as 0 (SPARC).
    """

    alive: float
    every: float
    concepts: int


def weighted_jaccard(joint: Array, fires: Array) -> Array:
    """(c,) sum of minima over sum of maxima of two models' label counts, a mean over pairs that fire at all.

    `joint` (m, c, labels), `fires` (m, c). Pairs in which a model is dead do not count; NaN where none is left.
    """
    total, pairs = np.zeros(joint.shape[1]), np.zeros(joint.shape[1])
    for one, other in combinations(range(len(joint)), 2):
        low, high = (f(joint[one], joint[other]).sum(axis=1) for f in (np.minimum, np.maximum))
        both = (fires[one] > 0) & (fires[other] > 0)
        total += both * np.divide(low, high, out=np.zeros(len(low)), where=high > 0)
        pairs += both
    return _share(total, pairs)


def agreement(joint: Array, fires: Array) -> Agreement:
    """`weighted_jaccard` summed up."""
    values = weighted_jaccard(joint, fires)
    alive = ~np.isnan(values)
    mean = float(values[alive].mean()) if alive.any() else float("nan")
    return Agreement(mean, float(np.nan_to_num(values).mean()), int(alive.sum()))


def label_purity(images: Array, carried: sparse.csr_array) -> Array:
    """(c,) share of a concept's strongest images that carry their most common label; NaN without images.

    `images` (c, n): rows of `carried` (images, labels), -1 for none.
    """
    concept, rank = np.nonzero(images >= 0)
    shape = (len(images), carried.shape[0])
    top = sparse.csr_array((np.ones(len(concept)), (concept, images[concept, rank])), shape=shape)
    common = (top @ carried).tocsr().max(axis=1).toarray().ravel()
    return _share(common, (images >= 0).sum(axis=1))


@dataclass
class LabelRanking:
    """How well the codes of chosen concepts rank tokens by chosen labels, in one model, from counts per value.

    concepts, targets (p,): pairs of a concept and a label's number. Codes within 3 % of each other are ties.
    """

    labels: Labels
    total: int
    concepts: Array
    targets: Array
    carrying: Array = field(init=False)
    everywhere: Array = field(init=False)

    def __post_init__(self) -> None:
        self.carrying = np.zeros((len(self.concepts), BINS), dtype=np.int64)
        self.everywhere = np.zeros((len(self.concepts), BINS), dtype=np.int64)

    def update(self, codes: CodeChunk) -> None:
        """Add the codes of one chunk."""
        rows, labels = self.labels.matrix(codes.images, codes.indices.shape[1])
        values = code_rows(codes, self.total)[rows][:, self.concepts]  # (rows, pairs)
        carried = labels[:, self.targets]  # (rows, pairs)
        for counts, part, units in (
            (self.everywhere, values, np.full(len(self.concepts), len(rows))),
            (self.carrying, values.multiply(carried), np.asarray(carried.sum(axis=0)).ravel()),
        ):
            entries = part.tocoo()
            entries.eliminate_zeros()
            bins = entries.data.astype(np.float16).view(np.uint16).astype(np.int64) >> DROPPED_BITS
            counts += np.bincount(entries.col * BINS + bins, minlength=counts.size).reshape(counts.shape)
            counts[:, 0] += units - np.bincount(entries.col, minlength=len(self.concepts))

    def merge(self, other: Self) -> None:
        """Add the counts of other images."""
        self.carrying += other.carrying
        self.everywhere += other.everywhere

    @property
    def auroc(self) -> Array:
        """(p,) chance that a token with the label has a larger code than one without, ties counting half."""
        positive, negative = self.carrying, self.everywhere - self.carrying
        below = negative.cumsum(axis=1) - negative / 2
        pairs = positive.sum(axis=1) * negative.sum(axis=1)
        won = (positive * below).sum(axis=1)
        return _share(won, pairs)


@dataclass
class LabelConcepts:
    """Per model and label the concept of largest IoU in one half of the images, and how it does in the other.

    fires: of all images, counted before. asked (a,): numbers of the labels that lie on tokens of both halves.
    best, iou (m, a): that concept, and its IoU in the other half.
    """

    fires: LabelHalves
    asked: Array = field(init=False)
    best: Array = field(init=False)
    iou: Array = field(init=False)
    rankings: list[LabelRanking] = field(init=False)

    def __post_init__(self) -> None:
        choosing, judging = self.fires.choosing, self.fires.judging
        self.asked = np.flatnonzero((choosing.present > 0) & (judging.present > 0))
        shape = judging.models, len(self.asked)
        self.best, self.iou = np.zeros(shape, dtype=np.int64), np.zeros(shape)
        for model in range(judging.models):
            self.best[model] = choosing.iou(model, self.asked).argmax(axis=0)
            judged = judging.iou(model, self.asked)  # (concepts, asked)
            self.iou[model] = judged[self.best[model], np.arange(len(self.asked))]
        self.rankings = [LabelRanking(judging.labels, judging.concepts, best, self.asked) for best in self.best]

    def update(self, codes: Sequence[CodeChunk]) -> None:
        """Add one chunk: the codes of every model, in order, for the same images."""
        for ranking, chunk in zip(self.rankings, codes, strict=True):
            ranking.update(half(chunk, JUDGING))

    def merge(self, other: Self) -> None:
        """Add the rankings of other images."""
        for ranking, more in zip(self.rankings, other.rankings, strict=True):
            ranking.merge(more)

    def frame(self, models: Sequence[str]) -> pd.DataFrame:
        """Table `label_concepts`."""
        judging = self.fires.judging
        names = [judging.labels.names[label] for label in self.asked]
        counts = {"present": judging.present[self.asked], "tokens": judging.tokens}
        frames = []
        for model, best, iou, ranking in zip(models, self.best, self.iou, self.rankings, strict=True):
            columns = {"model": model, "label": names, "concept_id": best, "iou": iou, "auroc": ranking.auroc}
            frames.append(pd.DataFrame({**columns, **counts}))
        return pd.concat(frames, ignore_index=True)


def _share(part: Array, whole: Array) -> Array:
    """Quotient, NaN where there is nothing to divide by."""
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0))
