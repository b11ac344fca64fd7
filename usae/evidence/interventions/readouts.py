"""Linear readouts of labels from standardised activations, per image or per token (stage `interventions`).

A readout is a ridge regression of 0 and 1 per label, with the penalty that errs least on a fifth of the training
images. For whole images it sees the mean of their tokens, as a classifier does. Means, decoders and readouts are
linear, so what a readout makes of a reconstruction is a linear map of the codes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from scipy import sparse

from usae.activations.store import ActivationStore, image_spans
from usae.common.numerics.ridge import VALIDATION, LinearMap, Products, ridge_map
from usae.common.runtime.progress import progress
from usae.common.types import Array, Unit
from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.labels.labels import ImageLabels, Labels, carried_by_images
from usae.evidence.metrics.reconstruction.passes import features, model_spans
from usae.sae.universal import UniversalSAE

BLOCK_IMAGES = 64
MIN_IMAGES = 10  # with a label, and without it, among the training images of its readout


@dataclass(frozen=True)
class Targets:
    """Chosen labels of a split's images, or of their tokens. An image carries what one of its tokens carries.

    tokens: per image. kept (L,): numbers of the labels.
    """

    labels: Labels
    tokens: int
    kept: Array
    unit: Unit = "image"

    @property
    def names(self) -> tuple[str, ...]:
        """(L,) names of the labels."""
        return tuple(self.labels.names[number] for number in self.kept)

    @property
    def exclusive(self) -> bool:
        """Whether an image has one label only, its class."""
        return isinstance(self.labels, ImageLabels)

    def where_they_lie(self) -> Self:
        """The same labels per token where they are known so, else per image."""
        return replace(self, unit="image" if self.exclusive else "token")

    def of(self, images: Array) -> tuple[Array, Array]:
        """Which units of `images` are labelled (of exclusive labels: with one that is kept), and with what.

        (n,) int, image or image * tokens + token, counted within `images`; (n, L) bool.
        """
        known = carried_by_images if self.unit == "image" else _carried_by_tokens
        rows, carried = known(self.labels, images, self.tokens)
        shown = carried.toarray()[:, self.kept] > 0  # (units, labels)
        chosen = shown.any(axis=1) if self.exclusive else np.ones(len(rows), dtype=bool)
        return rows[chosen], shown[chosen]


def common_targets(
    train: Labels | None, val: Labels | None, images: tuple[int, int], tokens: int
) -> tuple[Targets, Targets] | None:
    """Targets of training and held-out images: the labels that both kinds of images can teach and test.

    `images`: how many of each. None where fewer than two labels are left.
    """
    if train is None or val is None or train.names != val.names:
        return None
    every = np.arange(len(train.names))
    kept = np.ones(len(every), dtype=bool)
    for labels, count, least in ((train, images[0], MIN_IMAGES), (val, images[1], 1)):
        carried = [Targets(labels, tokens, every).of(block)[1] for block in _blocks(count)]
        shown, total = sum(part.sum(axis=0) for part in carried), sum(map(len, carried))
        kept &= (shown >= least) & (total - shown >= least)
    chosen = np.flatnonzero(kept)
    return (Targets(train, tokens, chosen), Targets(val, tokens, chosen)) if len(chosen) > 1 else None


def fit_readouts(
    sae: UniversalSAE, stores: Mapping[str, ActivationStore], targets: Targets, images: int
) -> dict[str, LinearMap]:
    """Per model the map from activations (d,) to scores of the labels (L,), from the first `images` images."""
    spans = model_spans(stores)
    width = max(span.stop for span in spans.values())
    fit, validation = (Products.none(np.zeros(width + len(targets.kept))) for _ in range(2))
    parts = _blocks(images)
    for block in progress(parts, total=len(parts), description=f"readouts per {targets.unit}", unit="block"):
        units, carried = targets.of(block)
        rows = [features(sae, model, store, block, targets.unit)[units] for model, store in stores.items()]
        side_by_side = np.concatenate([*rows, carried.astype(rows[0].dtype)], axis=1)  # (units, widths + labels)
        image = block[units if targets.unit == "image" else units // targets.tokens]
        late = image % VALIDATION == VALIDATION - 1
        fit.update(side_by_side[~late])
        validation.update(side_by_side[late])
    scores = slice(width, None)
    return {model: ridge_map(fit, validation, span, scores) for model, span in spans.items()}


@torch.inference_mode()
def through_decoder(sae: UniversalSAE, model: str, readout: LinearMap) -> LinearMap:
    """From mean codes (c,) to what the readout makes of the model's reconstruction."""
    dictionary = (sae.part(model).gain * sae.dictionary(model)).double().cpu().numpy()  # (concepts, width)
    return LinearMap(dictionary @ readout.weights, readout.offset)


def mean_codes(codes: CodeChunk, concepts: int) -> sparse.csr_array:
    """(b, c) mean over tokens of each image's codes."""
    images, tokens, k = codes.indices.shape
    rows = np.repeat(np.arange(images), tokens * k)
    values = codes.values.ravel().astype(np.float64) / tokens
    found = sparse.csr_array((values, (rows, codes.indices.ravel().astype(np.int64))), shape=(images, concepts))
    found.eliminate_zeros()
    return found


def _blocks(images: int) -> list[Array]:
    """Consecutive images, some at a time."""
    return [np.array(span) for span in image_spans(range(images), BLOCK_IMAGES)]


def _carried_by_tokens(labels: Labels, images: Array, tokens: int) -> tuple[Array, sparse.csr_array]:
    return labels.matrix(images, tokens)
