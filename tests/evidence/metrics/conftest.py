from collections.abc import Callable, Sequence

import numpy as np
import pytest

from usae.evidence.codes.store import CodeChunk


def random_chunk(
    rng: np.random.Generator, first: int, images: int, tokens: int, k: int, concepts: int
) -> CodeChunk:
    """Codes with distinct concepts per token, some below 0.1, some exactly 0; the last concept is unused."""
    rows = images * tokens
    indices = rng.random((rows, concepts - 1)).argsort(axis=1)[:, :k]
    values = rng.gamma(0.5, 1.0, (rows, k)) * (rng.random((rows, k)) > 0.2)
    return CodeChunk(
        np.arange(first, first + images),
        indices.reshape(images, tokens, k).astype(np.uint16),
        values.reshape(images, tokens, k).astype(np.float32),
    )


@pytest.fixture
def chunks() -> Callable[..., list[tuple[CodeChunk, ...]]]:
    """Random codes of several models: a list of chunks, each with one CodeChunk per model."""

    def make(
        models: int,
        *,
        images: Sequence[int] = (4, 4, 3),
        tokens: int = 9,
        k: int = 5,
        concepts: int = 12,
        seed: int = 0,
    ):
        rng = np.random.default_rng([seed, models])
        starts = np.cumsum([0, *images])
        return [
            tuple(random_chunk(rng, int(start), count, tokens, k, concepts) for _ in range(models))
            for start, count in zip(starts, images, strict=False)
        ]

    return make


@pytest.fixture
def dense() -> Callable[..., np.ndarray]:
    """(models, images, tokens, concepts) dense codes of a list of chunks."""

    def make(parts: Sequence[tuple[CodeChunk, ...]], concepts: int = 12) -> np.ndarray:
        per_model = []
        for chunk_list in zip(*parts, strict=True):
            blocks = []
            for chunk in chunk_list:
                block = np.zeros((*chunk.indices.shape[:2], concepts), dtype=np.float32)
                np.put_along_axis(block, chunk.indices.astype(np.int64), chunk.values, axis=2)
                blocks.append(block)
            per_model.append(np.concatenate(blocks))
        return np.stack(per_model)

    return make
