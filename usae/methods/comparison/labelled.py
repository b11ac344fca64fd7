"""Which images of both splits have labels, for what is asked by label."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from usae.activations.store import ActivationStore
from usae.common.types import Array
from usae.evidence.metrics.labels.labels import carried_by_images
from usae.evidence.metrics.labels.loading import load_labels
from usae.evidence.metrics.labels.single import LabelledImages
from usae.evidence.metrics.summary import HELD_OUT, TRAIN


def labelled_images(
    folder: Path, train: tuple[ActivationStore, Array], held_out: ActivationStore
) -> Mapping[str, LabelledImages]:
    """By split, the images that have labels; without training images where their labels are others.

    folder: of the image index. train: the store, and the numbers of the images to choose from.
    """
    stores = {HELD_OUT: (held_out, np.arange(held_out.images)), TRAIN: train}
    found: dict[str, LabelledImages] = {}
    names: tuple[str, ...] | None = None
    for split, (store, images) in stores.items():
        labels = load_labels(folder, split, store.images)
        names = names or (labels.names if labels else None)
        if labels is None or labels.names != names:
            continue
        places, carried = carried_by_images(labels, images, store.tokens)
        found[split] = LabelledImages.some(images[places], carried.toarray().astype(bool))
    return found
