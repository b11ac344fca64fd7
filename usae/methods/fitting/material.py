"""What a method without training is fitted on: paired training tokens, and SAEs that are there already.

The same is there twice more, for its floors: with images that are re-paired between the models, and with SAEs
before their first step.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float

from usae.activations.store import ActivationStore, image_spans
from usae.common.numerics.ridge import VALIDATION, Products
from usae.common.runtime.progress import progress
from usae.common.seeds import generator
from usae.common.types import Array
from usae.evidence.metrics.labels.single import LabelledImages
from usae.evidence.metrics.reconstruction.passes import model_spans, standardised
from usae.methods.runs.variants import SHUFFLED
from usae.sae.universal import UniversalSAE

BLOCK_IMAGES = 64


@dataclass(frozen=True)
class Material:
    """run: RUN, START (`alone` are SAEs before their first step) or SHUFFLED (the training images are re-paired).

    units: the universal SAE, whose standardised units are those of all. alone: the SAE of each model by itself.
    stores, held_out: activations by model. images: numbers of the training images to fit on, increasing. k: codes
    per token. labelled: images of each split that have labels, by split; a split without any is not there.
    """

    run: str
    units: UniversalSAE
    alone: Mapping[str, UniversalSAE]
    stores: Mapping[str, ActivationStore]
    held_out: Mapping[str, ActivationStore]
    images: Array
    k: int
    seed: int
    device: torch.device
    labelled: Mapping[str, LabelledImages] = field(default_factory=dict)

    @property
    def models(self) -> tuple[str, ...]:
        """Slugs, in order."""
        return tuple(self.stores)

    @property
    def spans(self) -> dict[str, slice]:
        """The columns of each model where all stand side by side."""
        return model_spans(self.stores)

    def repaired(self) -> "Material":
        """The same, each model's training images in an order of its own. Held-out images stay paired."""
        return replace(self, run=SHUFFLED)

    def blocks(self) -> Iterator[dict[str, Float[Array, "n _"]]]:
        """Standardised training tokens of every model, some images at a time; row r is the same token in all."""
        size = max(1, min(BLOCK_IMAGES, len(self.images) // VALIDATION))
        spans = list(image_spans(range(len(self.images)), size))
        for span in progress(spans, description="training tokens", unit="block"):
            yield {model: self._rows(model, np.asarray(span)) for model in self.models}

    @cached_property
    def products(self) -> tuple[Products, Products]:
        """Sums over training tokens, models side by side: to fit on, and to choose penalties by.

        Every fifth block of images is of the second, the first one where there are too few for that.
        """
        sums: tuple[Products, Products] | None = None
        for number, block in enumerate(self.blocks()):
            rows = np.concatenate(list(block.values()), axis=1)
            if sums is None:
                origin = rows.mean(axis=0, dtype=np.float64)
                sums = Products.none(origin), Products.none(origin)
            sums[number % VALIDATION == 0].update(rows)
        assert sums is not None, "there are no training images"
        return sums

    @cached_property
    def test(self) -> Products:
        """Sums over all held-out tokens, models side by side; about the origin of `products`."""
        sums = Products.none(self.products[0].origin)
        images = min(store.images for store in self.held_out.values())
        for span in image_spans(range(images), BLOCK_IMAGES):
            parts = [
                standardised(self.units, model, store, np.asarray(span)) for model, store in self.held_out.items()
            ]
            sums.update(np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts], axis=1))
        return sums

    def _rows(self, model: str, places: Array) -> Float[Array, "n d"]:
        """Standardised tokens of the images at some places, image after image."""
        wanted = self.images[self._order(model)[places]]
        order = np.argsort(wanted)
        rows = np.empty((len(wanted), self.stores[model].tokens, self.stores[model].width), np.float32)
        rows[order] = standardised(self.units, model, self.stores[model], wanted[order])
        return rows.reshape(-1, rows.shape[-1])

    def _order(self, model: str) -> Array:
        """Which of `images` stands at each place."""
        if self.run != SHUFFLED:
            return np.arange(len(self.images))
        place = self.models.index(model)
        return generator(self.seed, "re-paired training images of a method", place).permutation(len(self.images))
