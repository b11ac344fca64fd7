"""What passes over the held-out images say of one SAE: counts, nulls, reconstruction, resamples (stage
`contrast`).

Activations are encoded on the way, and only sums are kept.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
import torch

from usae.activations.store import ActivationStore, image_spans
from usae.common.numerics.numbers import Numbers, rounded
from usae.common.numerics.significance import FALSE_DISCOVERY_RATE
from usae.common.params import MeasureParams
from usae.common.runtime.progress import counter
from usae.common.types import Array
from usae.evidence.codes.encoding import ROWS, code_chunk
from usae.evidence.codes.store import CodeChunk
from usae.evidence.estimators import contribution_norms
from usae.evidence.metrics.contrast.resampling import Draws, Resampled, image_weights
from usae.evidence.metrics.firing.counts import FiringCounts
from usae.evidence.metrics.firing.evidence import evidence
from usae.evidence.metrics.firing.nulls import BLOCK_IMAGES, IMAGES, CofireNulls
from usae.evidence.metrics.firing.packed import WORD, pack
from usae.evidence.metrics.reconstruction.passes import decoded, standardised
from usae.evidence.metrics.reconstruction.r2 import Reconstruction
from usae.evidence.metrics.summary import HELD_OUT, USAE, concept_numbers, nulls_beside, reconstruction_numbers
from usae.sae.estimator import Concepts

PRE_CODES = 4  # as large as the dense pre-codes of a block of tokens, that encoding and counting hold at once


def most_bytes(stores: Mapping[str, ActivationStore], concepts: int) -> int:
    """Memory that `HeldOut.measured` takes at most: pre-codes of a block of tokens, and of a block of images to be
    re-paired which tokens fire and where that stands, for each model and for all others, were it all concepts.
    """
    images = min(BLOCK_IMAGES, *(store.images for store in stores.values()))
    words = -(-next(iter(stores.values())).tokens // WORD)
    fires = images * concepts * (8 * (words + 1) + 4)
    return PRE_CODES * 4 * ROWS * concepts + 2 * len(stores) * fires


class Accumulator(Protocol):
    """What adds up over codes."""

    def update(self, chunks: Sequence[CodeChunk]) -> None:
        """Add codes of all models on some images."""
        ...


@dataclass(frozen=True)
class HeldOut:
    """An SAE on the device, and the held-out activations of its models. seed: of the re-pairings, those of
    `measure`.
    """

    sae: Concepts
    stores: Mapping[str, ActivationStore]
    params: MeasureParams
    seed: int
    device: torch.device

    @property
    def images(self) -> int:
        """How many images there are."""
        return min(store.images for store in self.stores.values())

    def encoded(self, images: Array) -> Iterator[tuple[CodeChunk, ...]]:
        """Codes of all models on increasing `images`, some at a time, rounded as stage `encode` stores them."""
        size = min(store.chunk_images for store in self.stores.values())
        with counter(len(images), description="contrast", unit="image") as bar:
            for span in image_spans(range(len(images)), size):
                members = images[span.start : span.stop]
                rows = {model: np.asarray(store.take(members)) for model, store in self.stores.items()}
                yield tuple(
                    code_chunk(self.sae, model, part, members, self.device) for model, part in rows.items()
                )
                bar.update(len(members))

    def counted(self, images: Array, threshold: float) -> pd.DataFrame:
        """`evidence` of the images alone; a concept fires above `threshold`."""
        firing, nulls = self._accumulators(threshold)
        for chunks in self.encoded(images):
            firing.update(chunks)
            nulls.update(chunks)
        return evidence(firing, _permuted(nulls))

    def measured(self, *further: Accumulator) -> "Measured":
        """Everything, of all images; `further` ones see the same codes."""
        models, threshold = self.sae.models, self.params.threshold
        firing, nulls = self._accumulators(threshold)
        counted: list[Accumulator] = [firing, nulls, *further]
        table = Reconstruction(USAE, HELD_OUT)
        resampled = Resampled(models, self.sae.concepts, image_weights(self.images, self.seed))
        for chunks in self.encoded(np.arange(self.images)):
            images = chunks[0].images
            for each in counted:
                each.update(chunks)
            resampled.count([pack(chunk, self.sae.concepts, threshold) for chunk in chunks], images)
            sources = dict(zip(models, chunks, strict=True))
            for target, store in self.stores.items():
                truth = standardised(self.sae, target, store, images)
                guesses = list(decoded(self.sae, target, sources))
                table.update(target, truth, guesses)
                resampled.reconstruct(target, truth, guesses, images)
        norms, permuted = contribution_norms(self.sae, models), _permuted(nulls)
        beside = nulls_beside(firing, permuted, norms * firing.mean_codes)
        rows = pd.DataFrame(table.rows(models))
        return Measured(firing, evidence(firing, permuted), beside, norms, rows, resampled.draws())

    def _accumulators(self, threshold: float) -> tuple[FiringCounts, CofireNulls]:
        models, concepts = len(self.sae.models), self.sae.concepts
        everyone = [(IMAGES, tuple(range(models)))]
        permutations = self.params.permutations
        nulls = CofireNulls(models, concepts, threshold, permutations, self.seed, self.images, only=everyone)
        return FiringCounts(models, concepts, threshold), nulls


@dataclass(frozen=True)
class Measured:
    """evidence: a row per concept, of table `control_concepts`. nulls: numbers of re-paired images, see
    `nulls_beside`. norms (m, c): of what a concept adds.
    """

    firing: FiringCounts
    evidence: pd.DataFrame
    nulls: Mapping[str, float]
    norms: Array
    reconstruction: pd.DataFrame
    draws: Draws

    def numbers(self) -> Numbers:
        """The flat numbers of `summary`, and those of re-paired images."""
        models = [str(model) for model in range(self.firing.models)]
        significant = (self.evidence["q"] <= FALSE_DISCOVERY_RATE).sum() / max(
            self.firing.fires.any(axis=0).sum(), 1
        )
        return {
            **reconstruction_numbers(self.reconstruction),
            **concept_numbers(self.firing, self.norms, models),
            **self.nulls,
            "significant_share": rounded(float(significant)),
        }


def _permuted(nulls: CofireNulls) -> Array:
    """(moves, B, c); without moves, of a model alone, one in which every count is 0."""
    nulls.finish()
    nothing: Sequence[Array] = [np.zeros((1, nulls.permutations, nulls.concepts), np.int32)]
    return next(iter([*nulls.counts.values(), *nothing]))
