"""What maximised pictures are compared with: spectrum and scores of the run's own images (stage `maximise`)."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from usae.activations.store import ActivationStore
from usae.common.params import Fit
from usae.images.pixels.geometry import fit_image
from usae.images.pixels.index import ImageIndex
from usae.showing.maximisation.directions import Directions, ScoreKind, reduce_tokens
from usae.showing.maximisation.maco import magnitude_spectrum

SPECTRUM_IMAGES = 256
REAL_IMAGES = 1000


def run_spectrum(index: ImageIndex, size: int, fit: Fit) -> Tensor:
    """Magnitude spectrum of evenly spaced images of the run: [3, size, size//2 + 1]."""
    images = (fit_image(index.open(image), size, fit, "bicubic") for image in spaced(len(index), SPECTRUM_IMAGES))
    return magnitude_spectrum(torch.from_numpy(pixels.copy()) / 255 for pixels in images)


@torch.inference_mode()
def real_scores(
    directions: Directions, store: ActivationStore, score: ScoreKind, count: int = REAL_IMAGES
) -> np.ndarray:
    """The scores of `count` evenly spaced real images, which those of pictures are compared with.

    Shapes: n directions -> [count, n], float32.
    """
    device = directions.weight.device
    scores = [
        reduce_tokens(directions(torch.from_numpy(tokens).to(device)), score).cpu().numpy()  # (images, n)
        for tokens in _spaced_tokens(store, count)
    ]
    return np.concatenate(scores)


def spaced(total: int, count: int) -> np.ndarray:
    """At most `count` evenly spaced positions of `total`, the same on every call."""
    return np.unique(np.linspace(0, max(total - 1, 0), min(count, total)).round().astype(np.int64))


def _spaced_tokens(store: ActivationStore, count: int) -> Iterator[np.ndarray]:
    """Evenly spaced images, chunk by chunk: arrays [images, tokens, width], float32."""
    images = spaced(store.images, count)
    chunks = images // store.chunk_images
    for chunk in np.unique(chunks):
        yield store.take(images[chunks == chunk]).astype(np.float32)
