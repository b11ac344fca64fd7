"""Are the concepts of an SAE found again by another one? (stage `contrast`)

Two SAEs of the same models encode the same held-out tokens. Concepts are matched one to one by what they do: the
correlation of the two codes, mean over the models, has the largest sum. A concept comes back where it shares half
of its variance with its partner (`funnel.comes_back`). Beside it stand the partner of another concept, and the
same two SAEs before their first step, whose concepts are as like as their starts are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.optimize import linear_sum_assignment

from usae.activations.store import ActivationStore, image_spans
from usae.common.numerics.correlation import CrossCorrelation, PairCorrelation
from usae.common.runtime.progress import progress
from usae.common.types import Array
from usae.evidence.codes.encoding import code_chunk
from usae.evidence.codes.rows import code_rows, fired_rows
from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.dictionaries.directions import side_by_side
from usae.evidence.metrics.firing.evidence import SUPPORT
from usae.sae.estimator import Concepts

MATCHED_IMAGES = 2000  # most held-out images whose codes are compared, and kept in memory for that


@dataclass(frozen=True)
class HeldOutCodes:
    """One SAE's codes of held-out images: `chunks`, one per model each, and directions (c, sum of d), centred.

    fires (m, c): on these images.
    """

    concepts: int
    chunks: list[tuple[CodeChunk, ...]]
    fires: Array
    directions: Array

    @classmethod
    def of(
        cls,
        sae: Concepts,
        stores: Mapping[str, ActivationStore],
        means: Mapping[str, Array],
        threshold: float,
        device: torch.device,
    ) -> "HeldOutCodes":
        """Of at most MATCHED_IMAGES, evenly over the set; `means`: raw mean token of each model."""
        sae, first = sae.to(device), next(iter(stores.values()))
        images = np.unique(np.linspace(0, first.images - 1, MATCHED_IMAGES).astype(np.int64))
        chunks = []
        for span in image_spans(range(len(images)), first.chunk_images):
            members = images[span.start : span.stop]
            chunks.append(
                tuple(
                    code_chunk(sae, model, store.take(members), members, device) for model, store in stores.items()
                )
            )
        fires = sum(
            np.stack([np.asarray(fired_rows(one, sae.concepts, threshold).sum(axis=0)).ravel() for one in chunk])
            for chunk in chunks
        )
        return cls(sae.concepts, chunks, np.asarray(fires), side_by_side(sae, means))


def matched_concepts(one: HeldOutCodes, other: HeldOutCodes, threshold: float) -> pd.DataFrame:
    """A row per concept of `one`: its partner in `other`, NaN where either fires too seldom to be judged."""
    similarity = mean_correlations(one, other)  # (c, c)
    own, partner = partners(similarity, one.fires.min(axis=0), other.fires.min(axis=0))
    matched = pair_correlations(one, other, own, partner)  # (models, pairs)
    rows = pd.DataFrame(
        {
            "partner": partner,
            "correlation": matched.mean(axis=0),
            "correlation_least": matched.min(axis=0),
            "correlation_other": similarity[own, np.roll(partner, 1)],
            "jaccard": jaccard(one, other, own, partner, threshold),
            "cosine": (one.directions[own] * other.directions[partner]).sum(axis=1),
        },
        index=pd.Index(own, name="concept_id"),
    )
    rows = rows.reindex(np.arange(one.concepts)).assign(fires_least=one.fires.min(axis=0))
    return rows.astype({"partner": "Int32"}).reset_index()


def mean_correlations(one: HeldOutCodes, other: HeldOutCodes) -> Array:
    """(c, c) Pearson correlations over tokens of every code of `one` with each of `other`, mean over models."""
    total, models = np.zeros((one.concepts, other.concepts)), len(one.fires)
    for model in range(models):
        sums = CrossCorrelation(one.concepts, other.concepts)
        for left, right in zip(one.chunks, other.chunks, strict=True):
            sums.update(code_rows(left[model], one.concepts), code_rows(right[model], other.concepts))
        total += sums.correlations
    return total / models


def pair_correlations(one: HeldOutCodes, other: HeldOutCodes, own: Array, partner: Array) -> Array:
    """(m, pairs) the same of pairs of concepts, by model."""
    sums = [PairCorrelation.none(len(own)) for _ in one.fires]
    for left, right in zip(one.chunks, other.chunks, strict=True):
        for pairs, mine, theirs in zip(sums, left, right, strict=True):
            pairs.update(code_rows(mine, one.concepts)[:, own], code_rows(theirs, other.concepts)[:, partner])
    return np.stack([pairs.correlations for pairs in sums])


def partners(similarity: Array, fires: Array, other_fires: Array) -> tuple[Array, Array]:
    """Concepts and their partners in the assignment of the largest sum, among those with SUPPORT fires."""
    own, others = np.flatnonzero(fires >= SUPPORT), np.flatnonzero(other_fires >= SUPPORT)
    rows, columns = linear_sum_assignment(similarity[np.ix_(own, others)], maximize=True)
    return own[rows], others[columns]


def jaccard(one: HeldOutCodes, other: HeldOutCodes, own: Array, partner: Array, threshold: float) -> Array:
    """(pairs,) tokens on which concept and partner both fire over those on which either does, mean over models."""
    both = np.zeros((len(one.fires), len(own)))
    for left, right in zip(one.chunks, other.chunks, strict=True):
        for counts, mine, theirs in zip(both, left, right, strict=True):
            fires = fired_rows(mine, one.concepts, threshold)[:, own]
            counts += np.asarray(
                fires.multiply(fired_rows(theirs, other.concepts, threshold)[:, partner]).sum(axis=0)
            )
    either = one.fires[:, own] + other.fires[:, partner] - both
    return np.asarray(np.divide(both, either, out=np.zeros(both.shape), where=either > 0).mean(axis=0))


def all_matches(
    codes: Mapping[str, HeldOutCodes], pairs: Sequence[tuple[str, str]], threshold: float
) -> pd.DataFrame:
    """Rows of table `stability` of each (run, against) of `pairs`."""
    frames = [
        matched_concepts(codes[run], codes[against], threshold).assign(run=run, against=against)
        for run, against in progress(pairs, total=len(pairs), description="matched concepts", unit="pair of SAEs")
    ]
    return pd.concat(frames, ignore_index=True)
