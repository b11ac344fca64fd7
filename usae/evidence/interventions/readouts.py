"""Linear readouts of labels from standardised activations, per image or per token (stage `interventions`).

A readout is a ridge regression of 0 and 1 per label, with the penalty that errs least on a fifth of the training
images. Per image, its input is the mean of the image's tokens. Means, decoders and readouts are linear, so the
scores that a readout gives to a reconstruction are a linear map of the codes.
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
from usae.evidence.estimators import decoder_rows
from usae.evidence.metrics.labels.labels import ImageLabels, Labels, carried_by_images
from usae.evidence.metrics.reconstruction.passes import features, model_spans
from usae.sae.estimator import Estimator

BLOCK_IMAGES = 64
MIN_IMAGES = 10  # with a label, and without it, among the training images of its readout


@dataclass(frozen=True)
class Targets:
    """Chosen labels of a split's images, or of their tokens. An image has every label that one of its tokens has.

    tokens: per image. columns (L,): which of `labels` are chosen.
    """

    labels: Labels
    tokens: int
    columns: Array
    unit: Unit = "image"

    @property
    def names(self) -> tuple[str, ...]:
        """(L,) names of the labels."""
        return tuple(self.labels.names[column] for column in self.columns)

    @property
    def exclusive(self) -> bool:
        """Whether an image has one label only, its class."""
        return isinstance(self.labels, ImageLabels)

    def at_finest_unit(self) -> Self:
        """The same labels per token where tokens are labelled, else per image."""
        return replace(self, unit="image" if self.exclusive else "token")

    def labelled_units(self, images: Array) -> tuple[Array, Array]:
        """Which units of `images` are labelled (of exclusive labels: with a chosen one), and with what.

        (n,) int, image or image * tokens + token, counted within `images`; (n, L) bool.
        """
        matrix_of = carried_by_images if self.unit == "image" else _carried_by_tokens
        units, matrix = matrix_of(self.labels, images, self.tokens)
        carried = matrix.toarray()[:, self.columns] > 0  # (units, labels)
        labelled = carried.any(axis=1) if self.exclusive else np.ones(len(units), dtype=bool)
        return units[labelled], carried[labelled]


def common_targets(
    train: Labels | None, val: Labels | None, images: tuple[int, int], tokens: int
) -> tuple[Targets, Targets] | None:
    """Targets of training and held-out images: the labels that have enough images in both splits.

    At least MIN_IMAGES training images and 1 held-out image are with the label, and as many without it. None where
    fewer than two labels are left. images: how many of each split.
    """
    if train is None or val is None or train.names != val.names:
        return None
    columns = np.arange(len(train.names))
    enough = np.ones(len(columns), dtype=bool)
    for labels, count, least in ((train, images[0], MIN_IMAGES), (val, images[1], 1)):
        carried = [Targets(labels, tokens, columns).labelled_units(block)[1] for block in _blocks(count)]
        images_with, total = sum(block.sum(axis=0) for block in carried), sum(map(len, carried))
        enough &= (images_with >= least) & (total - images_with >= least)
    chosen = np.flatnonzero(enough)
    return (Targets(train, tokens, chosen), Targets(val, tokens, chosen)) if len(chosen) > 1 else None


def fit_readouts(
    sae: Estimator, stores: Mapping[str, ActivationStore], targets: Targets, images: int
) -> dict[str, LinearMap]:
    """Per model the map from activations (d,) to scores of the labels (L,), from the first `images` images."""
    spans = model_spans(stores)
    width = max(span.stop for span in spans.values())
    fit, validation = (Products.none(np.zeros(width + len(targets.columns))) for _ in range(2))
    image_blocks = _blocks(images)
    for block in progress(
        image_blocks, total=len(image_blocks), description=f"readouts per {targets.unit}", unit="block"
    ):
        units, carried = targets.labelled_units(block)
        rows = [features(sae, model, store, block, targets.unit)[units] for model, store in stores.items()]
        side_by_side = np.concatenate([*rows, carried.astype(rows[0].dtype)], axis=1)  # (units, widths + labels)
        image = block[units if targets.unit == "image" else units // targets.tokens]
        held_back = image % VALIDATION == VALIDATION - 1
        fit.update(side_by_side[~held_back])
        validation.update(side_by_side[held_back])
    scores = slice(width, None)
    return {model: ridge_map(fit, validation, span, scores) for model, span in spans.items()}


@torch.inference_mode()
def through_decoder(sae: Estimator, model: str, readout: LinearMap) -> LinearMap:
    """From mean codes (c,) to the scores (L,) that the readout gives to the model's reconstruction."""
    dictionary = decoder_rows(sae, model).double().cpu().numpy()  # (concepts, width)
    return LinearMap(dictionary @ readout.weights, readout.offset)


def mean_codes(codes: CodeChunk, concepts: int) -> sparse.csr_array:
    """(b, c) mean over tokens of each image's codes."""
    images, tokens, k = codes.indices.shape
    rows = np.repeat(np.arange(images), tokens * k)
    values = codes.values.ravel().astype(np.float64) / tokens
    means = sparse.csr_array((values, (rows, codes.indices.ravel().astype(np.int64))), shape=(images, concepts))
    means.eliminate_zeros()
    return means


def _blocks(images: int) -> list[Array]:
    """Consecutive images, some at a time."""
    return [np.array(span) for span in image_spans(range(images), BLOCK_IMAGES)]


def _carried_by_tokens(labels: Labels, images: Array, tokens: int) -> tuple[Array, sparse.csr_array]:
    return labels.matrix(images, tokens)
