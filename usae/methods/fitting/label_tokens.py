"""Images with labels, of training and held out, and what the models make of each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from usae.activations.store import ActivationStore, image_spans
from usae.common.numerics.ridge import VALIDATION, LinearMap, Products, ridge_map
from usae.common.types import Array
from usae.evidence.metrics.labels.single import FEWEST
from usae.evidence.metrics.reconstruction.passes import standardised
from usae.evidence.metrics.summary import HELD_OUT, TRAIN
from usae.methods.fitting.material import BLOCK_IMAGES, Material
from usae.methods.fitting.own import own_codes


@dataclass(frozen=True)
class LabelTokens:
    """Images of one split. images (n,): their numbers. present (n, L) bool: what they carry.

    By model: means (n, d), the mean standardised token of each; codes (n, c), of its own SAE, summed over tokens;
    powers, the mean squared norm of a token.
    """

    images: Array
    present: Array
    means: Mapping[str, Array]
    codes: Mapping[str, Array]
    powers: Mapping[str, float]

    @classmethod
    def of(
        cls, material: Material, images: Array, present: Array, stores: Mapping[str, ActivationStore]
    ) -> "LabelTokens":
        """One pass over the images of each model, as they are: nothing is re-paired here."""
        means, codes, powers = {}, {}, {}
        for model, store in stores.items():
            blocks = [of_block(material, model, rows) for rows in token_blocks(material, model, store, images)]
            means[model], codes[model] = (np.concatenate([each[part] for each in blocks]) for part in (0, 1))
            powers[model] = sum(power for _, _, power in blocks) / (len(images) * store.tokens)
        return cls(images, present, means, codes, powers)

    def readout(self, model: str) -> LinearMap:
        """Ridge regression of the labels on an image's mean token; one image in VALIDATION chooses the penalty."""
        rows = np.concatenate([self.means[model], self.present], axis=1)
        held_back = np.arange(len(rows)) % VALIDATION == VALIDATION - 1
        fit, validation = (Products.none(rows.mean(axis=0)) for _ in range(2))
        fit.update(rows[~held_back])
        validation.update(rows[held_back])
        width = self.means[model].shape[1]
        return ridge_map(fit, validation, slice(0, width), slice(width, None))


LabelSplits = tuple[LabelTokens, LabelTokens]  # of training and held-out images


def label_tokens(material: Material) -> LabelSplits | None:
    """Of training and held-out images, with the labels that at least FEWEST images of each have, and as many lack.

    None where fewer than two labels are left.
    """
    train, held_out = (material.labelled.get(split) for split in (TRAIN, HELD_OUT))
    if train is None or held_out is None:
        return None
    present = train.present, held_out.present
    enough = np.min([part.sum(axis=0) for each in present for part in (each, ~each)], axis=0) >= FEWEST
    if enough.sum() < 2:
        return None
    return (
        LabelTokens.of(material, train.images, train.present[:, enough], material.stores),
        LabelTokens.of(material, held_out.images, held_out.present[:, enough], material.held_out),
    )


def of_block(material: Material, model: str, rows: Array) -> tuple[Array, Array, float]:
    """Of (b, t, d) tokens: means (b, d), codes (b, c) summed over tokens, and the sum of the squared norms."""
    codes = summed(own_codes(material, model, flat(rows)), rows.shape[1])
    return rows.mean(axis=1, dtype=np.float64), codes, float(np.square(rows).sum())


def token_blocks(material: Material, model: str, store: ActivationStore, images: Array) -> Iterator[Array]:
    """(b, t, d) standardised tokens of some images at a time."""
    for span in image_spans(range(len(images)), BLOCK_IMAGES):
        yield standardised(material.units, model, store, images[np.asarray(span)])


def flat(rows: Array) -> Array:
    """(b * t, d) tokens of (b, t, d)."""
    return rows.reshape(-1, rows.shape[-1])


def summed(codes: sparse.csr_array, tokens: int) -> Array:
    """(n, c) sums over the tokens of each image, of (n * t, c)."""
    images = codes.shape[0] // tokens
    places = np.repeat(np.arange(images), tokens), np.arange(images * tokens)
    gather = sparse.csr_array((np.ones(images * tokens), places), shape=(images, images * tokens))
    return np.asarray((gather @ codes).toarray())
