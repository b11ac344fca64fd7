"""One pass over the codes of a split, for every accumulator that needs codes only (stage `measure`).

The split is cut into the blocks within which the nulls re-pair images. Each block is counted by itself, here or
on the workers that `runtime.dask` names, and the counts are added in the order of the blocks: the same bytes
anywhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Self

from usae.common.params import MeasureParams
from usae.common.runtime.cluster import HERE, Workers
from usae.common.runtime.progress import counter
from usae.common.types import Array
from usae.evidence.codes.store import CodeStore, aligned_chunks
from usae.evidence.metrics.firing.counts import FiringCounts
from usae.evidence.metrics.firing.exemplars import Exemplars
from usae.evidence.metrics.firing.nulls import BLOCK_IMAGES, CofireNulls, block_of
from usae.evidence.metrics.firing.refinement import Refinement
from usae.evidence.metrics.labels.concepts import STRONGEST, LabelHalves
from usae.evidence.metrics.labels.labels import Labels


@dataclass(frozen=True)
class ConceptStatistics:
    """What the pass leaves; `labels` is None for data without labels.

    exemplars: at least `measure.exemplars` images of each concept, with labels as many as its purity asks for.
    """

    firing: FiringCounts
    exemplars: Exemplars
    labels: LabelHalves | None
    nulls: CofireNulls
    refinement: Refinement

    def merge(self, other: Self) -> None:
        """Add what later images left."""
        self.firing.merge(other.firing)
        self.exemplars.merge(other.exemplars)
        self.nulls.merge(other.nulls)
        self.refinement.merge(other.refinement)
        if self.labels is not None and other.labels is not None:
            self.labels.merge(other.labels)


@dataclass(frozen=True)
class BlockCount:
    """The count of some chunks, as paths and plain values: all that a worker process is told."""

    stores: Mapping[str, Path]
    labels: Labels | None
    params: MeasureParams
    seed: int
    classes: Array | None
    block_images: int
    ends: Sequence[int]

    def __call__(self, chunks: range) -> ConceptStatistics:
        """Count consecutive chunks, which are one block of the nulls."""
        stores = {model: CodeStore.open(path) for model, path in self.stores.items()}
        statistics = self._nothing(next(iter(stores.values())))
        for codes in aligned_chunks(stores, chunks):
            statistics.firing.update(codes)
            statistics.exemplars.update(codes)
            statistics.nulls.update(codes)
            statistics.refinement.update(codes)
            if statistics.labels is not None:
                statistics.labels.update(codes)
        statistics.nulls.finish()
        return statistics

    def _nothing(self, store: CodeStore) -> ConceptStatistics:
        size, permutations = (len(self.stores), store.concepts, self.params.threshold), self.params.permutations
        kept = self.params.exemplars if self.labels is None else max(self.params.exemplars, STRONGEST)
        return ConceptStatistics(
            FiringCounts(*size),
            Exemplars(tuple(self.stores), store.concepts, kept),
            None if self.labels is None else LabelHalves.none(self.labels, *size),
            CofireNulls(*size, permutations, self.seed, store.images, self.classes, self.block_images),
            Refinement(self.ends, self.params.threshold),
        )


def concept_statistics(
    codes: Mapping[str, CodeStore],
    labels: Labels | None,
    params: MeasureParams,
    seed: int,
    classes: Array | None,
    *,
    ends: Sequence[int] = (),
    workers: Workers = HERE,
    block_images: int = BLOCK_IMAGES,
) -> ConceptStatistics:
    """Firing counts and their nulls, top images, fires on labels and of concepts of two levels, all of the same
    images in all models.

    `classes` (images,) are what null `class` keeps apart, None without. `ends`: concepts of the levels up to each
    one; empty: one level.

    Raises:
        UserError: several of `workers` died on the same task.
    """
    first = next(iter(codes.values()))
    paths = {model: store.path.absolute() for model, store in codes.items()}
    count = BlockCount(paths, labels, params, seed, classes, block_images, tuple(ends) or (first.concepts,))
    counted = workers.in_order(count, blocks(first, block_images))
    with counter(first.images, description="concepts", unit="image") as bar:
        total = next(counted)
        bar.update(total.firing.tokens // first.tokens)
        for statistics in counted:
            total.merge(statistics)
            bar.update(statistics.firing.tokens // first.tokens)
    return total


def blocks(store: CodeStore, block_images: int) -> list[range]:
    """The chunks of each block of the nulls."""
    chunks = range(store.chunks)
    block = [block_of(chunk * store.chunk_images, store.images, block_images) for chunk in chunks]
    groups = [list(members) for _, members in groupby(chunks, key=block.__getitem__)]
    return [range(group[0], group[-1] + 1) for group in groups]
