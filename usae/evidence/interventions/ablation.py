"""Causal ablation: does setting a concept to 0 change the label scores of different models in the same way?

Table `ablation`. A' = A + (Z' - Z) D_i with the codes of concept k set to 0; the residual of the SAE stays in A'.
Readouts are linear: an image's mean scores change by minus its mean code of k, times the readout's scores of row k
of D_i. So the mean over the images in which k fires needs sums of mean codes only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Self

import numpy as np
import pandas as pd
from scipy import sparse, stats

from usae.common.numerics.matching import unit
from usae.common.numerics.significance import FALSE_DISCOVERY_RATE
from usae.common.types import Array
from usae.evidence.codes.rows import fired
from usae.evidence.codes.store import CodeChunk
from usae.evidence.interventions.readouts import mean_codes

LEAST_IMAGES = 20  # in which a concept fires, in every model, for its p to be tested: chosen without a look at p
BLOCK = 512  # concepts compared with all others at a time
ROUNDING = 1e-9


@dataclass
class ImageFires:
    """Images in which concepts fire, and their mean codes there: both (m, c), whatever the number of images."""

    models: int
    concepts: int
    threshold: float
    images: Array = field(init=False)
    sums: Array = field(init=False)

    def __post_init__(self) -> None:
        self.images = np.zeros((self.models, self.concepts), dtype=np.int64)
        self.sums = np.zeros((self.models, self.concepts))

    def update(self, codes: Sequence[CodeChunk]) -> None:
        """Add one chunk: the codes of every model, in order, for the same images."""
        for model, chunk in enumerate(codes):
            fired = _fired(chunk, self.concepts, self.threshold)
            self.images[model] += np.asarray(fired.astype(np.int64).sum(axis=0)).ravel()
            self.sums[model] += np.asarray(mean_codes(chunk, self.concepts).multiply(fired).sum(axis=0)).ravel()

    def merge(self, other: Self) -> None:
        """Add the counts of other images."""
        self.images += other.images
        self.sums += other.sums

    @property
    def strengths(self) -> Array:
        """(m, c) mean over the images in which it fires of a concept's mean code; 0 where it never does."""
        return np.asarray(self.sums / np.maximum(self.images, 1))


def effects(fires: ImageFires, directions: Sequence[Array]) -> Array:
    """(m, c, L) mean change of each label's score where a concept is taken out of the images in which it fires.

    directions: per model the scores (c, L) that its readout gives to the rows of its dictionary.
    """
    return np.stack([-strength[:, None] * d for strength, d in zip(fires.strengths, directions, strict=True)])


def ablation_frame(fires: ImageFires, directions: Mapping[str, Array], labels: Sequence[str]) -> pd.DataFrame:
    """Rows of table `ablation` of one SAE, one per concept; all but the column `sae`."""
    changes = effects(fires, list(directions.values()))  # (models, concepts, labels)
    alive = np.asarray((fires.images > 0).all(axis=0))
    agreement, p = agreements(changes, alive)
    q = np.full(len(p), np.nan)
    tested = np.asarray((fires.images >= LEAST_IMAGES).all(axis=0)) & ~np.isnan(p)
    if tested.any():
        q[tested] = stats.false_discovery_control(p[tested], method="bh")
    mean = changes.mean(axis=0)  # (concepts, labels)
    strongest = np.abs(mean).argmax(axis=1)
    return pd.DataFrame(
        {
            "concept_id": np.arange(len(p)),
            "images": fires.images.min(axis=0),
            "label": np.where(alive, np.array(labels, dtype=object)[strongest], None),
            "effect": np.where(alive, mean[np.arange(len(p)), strongest], np.nan),
            "selectivity": np.where(alive, selectivity(changes).mean(axis=0), np.nan),
            "agreement": agreement,
            "p": p,
            "q": q,
            "agrees": pd.array(np.where(tested, q <= FALSE_DISCOVERY_RATE, False), dtype="boolean"),
        }
    ).assign(agrees=lambda frame: frame["agrees"].where(tested))


def agreements(changes: Array, alive: Array) -> tuple[Array, Array]:
    """(c,) smallest correlation over pairs of models of what a concept changes (m, c, L), and its p.

    Of each label's change the mean over concepts is left out, and its spread over them is the unit: ranks would
    give the many labels that a concept leaves alone the weight of the few it moves. p: the largest over models of
    `mismatch_shares`, so that it is small only where every model takes part (an intersection-union test).
    NaN for one model alone and where not alive.
    """
    agreement, p = np.full((2, len(alive)), np.nan)
    if len(changes) < 2 or not alive.any():
        return agreement, p
    profiles = [unit(_centred(_peculiar(rows[alive]), axis=1)) for rows in changes]
    agreement[alive] = _smallest_products(profiles)
    p[alive] = np.max([mismatch_shares(profiles, model) for model in range(len(profiles))], axis=0)
    return agreement, p


def mismatch_shares(profiles: Sequence[Array], model: int) -> Array:
    """(a,) p of each concept against all mismatches of one model; profiles: rows of length 1 (a, L) per model.

    A mismatch puts another concept of `model` beside the concept of the other models. It agrees as well if its
    smallest correlation over pairs of models is not below that of the match: (1 + such mismatches) / (1 + all).
    """
    others = [rows for other, rows in enumerate(profiles) if other != model]
    matched, reached = _smallest_products(profiles), np.zeros(len(profiles[0]), dtype=np.int64)
    for start in range(0, len(matched), BLOCK):
        block = slice(start, start + BLOCK)
        # pairs without `model` stay as they are, so they cannot fall below the match
        products = np.min([rows[block] @ profiles[model].T for rows in others], axis=0)  # (block, a)
        reached[block] = (products + ROUNDING >= matched[block, None]).sum(
            axis=1
        )  # the match itself is one of them
    return np.asarray(reached / len(matched))


def selectivity(changes: Array) -> Array:
    """(m, c) largest change of a label over the mean of the others, without sign; NaN where nothing changes."""
    size = np.abs(changes)
    top = size.max(axis=2)
    rest = (size.sum(axis=2) - top) / (size.shape[2] - 1)
    return np.asarray(np.divide(top, rest, out=np.full(top.shape, np.nan), where=rest > 0))


def _smallest_products(profiles: Sequence[Array]) -> Array:
    """(a,) products of same rows of matrices (a, L), the smallest over pairs of matrices."""
    pairs = combinations(profiles, 2)
    return np.asarray(np.min([np.einsum("kl,kl->k", one, other) for one, other in pairs], axis=0))


def _peculiar(changes: Array) -> Array:
    """Changes (a, L) less the mean concept's, in units of each label's spread over concepts."""
    centred = _centred(changes, axis=0)
    spread = centred.std(axis=0)
    return np.asarray(np.divide(centred, spread, out=np.zeros(centred.shape), where=spread > 0))


def _centred(rows: Array, axis: int) -> Array:
    return np.asarray(rows - rows.mean(axis=axis, keepdims=True))


def _fired(chunk: CodeChunk, concepts: int, threshold: float) -> sparse.csr_array:
    """(b, c) of 0 and 1: where a code of the image exceeds the threshold."""
    token, concept = fired(chunk, threshold)
    image = token // chunk.indices.shape[1]
    shape = (len(chunk.images), concepts)
    tokens = sparse.csr_array((np.ones(len(image)), (image, concept.astype(np.int64))), shape=shape)
    return sparse.csr_array(tokens > 0)
