"""Which concepts are close to a concept: by direction in each model, and by the tokens they share (stage
`report`)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from usae.common.seeds import generator
from usae.evidence.codes.rows import fired_rows
from usae.evidence.codes.store import CodeChunk
from usae.sae.universal import UniversalSAE

COUNT = 5
RANDOM_ROWS = 256  # of a random dictionary, whose nearest are looked for
LEAST_SHARE = 0.01  # of tokens in common; concepts with fewer are not near

Near = list[tuple[int, float]]  # other concepts and how close, nearest first


@dataclass
class Cofiring:
    """How often chosen concepts fire on the same tokens as any other, summed over models.

    cofires (chosen, concepts): of each pair in the same model; fires (concepts,).
    """

    chosen: Sequence[int]
    concepts: int
    threshold: float

    def __post_init__(self) -> None:
        self.cofires = np.zeros((len(self.chosen), self.concepts), dtype=np.int64)
        self.fires = np.zeros(self.concepts, dtype=np.int64)

    def update(self, chunks: Iterable[CodeChunk]) -> None:
        """Add one chunk of every model."""
        for chunk in chunks:
            fired = fired_rows(chunk, self.concepts, self.threshold)  # (tokens, concepts)
            self.cofires += np.asarray((fired[:, list(self.chosen)].T @ fired).todense(), dtype=np.int64)
            self.fires += np.asarray(fired.sum(axis=0), dtype=np.int64).ravel()

    def near(self) -> dict[int, Near]:
        """Per chosen concept those that share most: tokens on which both fire, of those on which either does."""
        either = self.fires[list(self.chosen), None] + self.fires - self.cofires
        shares = np.where(either > 0, self.cofires / np.maximum(either, 1), 0)
        return {
            concept: [pair for pair in nearest(row, concept) if pair[1] >= LEAST_SHARE]
            for concept, row in zip(self.chosen, shares, strict=True)
        }


@torch.no_grad()
def near_directions(sae: UniversalSAE, model: str, chosen: Sequence[int]) -> dict[int, Near]:
    """Per chosen concept those with the largest decoder cosine in a model."""
    dictionary = sae.dictionary(model)  # (concepts, width)
    cosines = (dictionary[list(chosen)] @ dictionary.T).numpy()  # (chosen, concepts)
    return {concept: nearest(row, concept) for concept, row in zip(chosen, cosines, strict=True)}


def random_nearest(concepts: int, width: int, seed: int) -> float:
    """What a dictionary of random directions gives: the cosine of a row with its nearest other, mean of rows."""
    drawn = generator(seed, "random dictionary", width)
    rows = drawn.standard_normal((concepts, width), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    asked = np.arange(min(concepts, RANDOM_ROWS))
    cosines = rows[asked] @ rows.T  # (asked, concepts)
    cosines[asked, asked] = -1
    return float(cosines.max(axis=1).mean())


def nearest(values: np.ndarray, itself: int, count: int = COUNT) -> Near:
    """The `count` largest values but the concept's own, ties by number."""
    order = np.lexsort((np.arange(values.size), -values))
    return [(int(other), float(values[other])) for other in order[: count + 1] if other != itself][:count]
