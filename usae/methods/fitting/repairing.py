"""Blocks of paired tokens with the images re-paired between the models: what any method finds there is chance."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from usae.common.numerics.correlation import Rows
from usae.common.types import Array


def repaired_blocks(
    block: Mapping[str, Rows], tokens: int, rng: np.random.Generator, times: int
) -> Iterator[dict[str, Any]]:
    """Rows of some images, all models moved by whole images, each by a number of its own where there are enough.

    block: model -> (images * tokens, units), image after image. Images go round, tokens keep their positions.
    """
    images = next(iter(block.values())).shape[0] // tokens
    for _ in range(times):
        shifts = np.resize(rng.permutation(images), len(block))
        moved = zip(block.items(), shifts, strict=True)
        yield {model: _rolled(rows, int(shift) * tokens) for (model, rows), shift in moved}


def _rolled(rows: Any, shift: int) -> Any:
    """The last `shift` rows first."""
    return rows[np.roll(np.arange(rows.shape[0]), shift)]


def crossed(covariance: Array, products: Mapping[tuple[str, str], Array], spans: Mapping[str, slice]) -> Array:
    """A covariance (d, d) of all models side by side with other blocks between the models."""
    other = covariance.copy()
    for (one, two), block in products.items():
        other[spans[one], spans[two]] = block
        other[spans[two], spans[one]] = block.T
    return other
