"""Table `alignment`: likeness of the models' activations and of their codes, beside re-paired images.

Neighbours and CKA look at one row per sampled image, the mean of its tokens, and at one token of each; buddies at
all tokens of these images. Only the sample is in memory.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, combinations, islice

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from usae.common.runtime.parallel import side_by_side
from usae.common.runtime.progress import progress
from usae.common.seeds import generator
from usae.common.types import Array, Pair
from usae.evidence.metrics.alignment.buddies import NEAREST, buddies_of, cliques
from usae.evidence.metrics.alignment.pairings import ScaledRows, correlations, dense
from usae.evidence.metrics.alignment.rows import Source
from usae.evidence.metrics.alignment.similarity import (
    NEIGHBOURS,
    Similarity,
    linear_cka,
    mutual_knn,
    neighbours,
    prepared,
)

BLOCK = 32  # images
SAMPLE = 512  # images behind every measure
PERMUTATIONS = 200  # re-pairings behind every p, which is 1 / 201 at the finest
BUDDY_PERMUTATIONS = 60  # the first of these, for nearest units: each costs a product of all units with all
MOST_PAIRS = 28  # of models, up to which there are as many; with more pairs there are fewer re-pairings
ALL = "all"

Row = dict[str, object]


def alignment_frame(
    spaces: Mapping[str, Mapping[str, Source]],
    images: int,
    *,
    seed: int,
    sample: int = SAMPLE,
    permutations: int = PERMUTATIONS,
) -> pd.DataFrame:
    """Table `alignment` of each space (name -> model -> source) on `sample` of its `images` images.

    permutations: re-pairings behind every measure, of rows for neighbours and CKA, of images for buddies.
    """
    rng = generator(seed, "alignment")
    chosen = np.sort(rng.choice(images, min(sample, images), replace=False))
    orders = [rng.permutation(len(chosen)) for _ in range(permutations)]

    def rows(space: str) -> list[Row]:
        sources = spaces[space]
        tokens = next(iter(sources.values())).tokens
        positions = generator(seed, "alignment, tokens").integers(tokens, size=len(chosen))
        features = _features(sources, chosen, positions)
        likeness = [row for name, each in features.items() for row in _likeness(f"{space}, {name}", each, orders)]
        return likeness + list(_buddies(f"{space}, all tokens", sources, chosen, orders))

    found = side_by_side(rows, list(spaces), torch.device("cpu"))
    coming = progress(found, total=len(spaces), description="alignment", unit="space")
    return pd.DataFrame([row for own in coming for row in own])


def _features(sources: Mapping[str, Source], images: Array, positions: Array) -> dict[str, dict[str, Array]]:
    """Dense rows [images, units] of each model: means over tokens, and the token at `positions` of each image."""
    features: dict[str, dict[str, Array]] = {"image means": {}, "tokens": {}}
    for model, source in sources.items():
        means, tokens = [], []
        for start in range(0, len(images), BLOCK):
            block = source.rows(images[start : start + BLOCK])
            first = np.arange(block.shape[0] // source.tokens) * source.tokens
            share = np.full((1, source.tokens), 1 / source.tokens)
            means.append(dense(sparse.kron(sparse.eye_array(len(first)), share, format="csr") @ block))
            tokens.append(dense(block[first + positions[start : start + BLOCK]]))
        features["image means"][model], features["tokens"][model] = np.concatenate(means), np.concatenate(tokens)
    return features


def _likeness(space: str, features: Mapping[str, Array], orders: Sequence[Array]) -> Iterator[Row]:
    """Neighbours and CKA of every pair of models."""
    near = {model: neighbours(prepared(rows), min(NEIGHBOURS, len(rows) - 1)) for model, rows in features.items()}
    for one, other in combinations(features, 2):
        yield _row("mutual_knn", space, one, other, mutual_knn(near[one], near[other], orders))
        biased, unbiased = linear_cka(features[one], features[other], orders)
        yield _row("cka", space, one, other, biased)
        yield _row("cka_unbiased", space, one, other, unbiased)


def _buddies(space: str, sources: Mapping[str, Source], images: Array, orders: Sequence[Array]) -> Iterator[Row]:
    """Mutual nearest units of every pair of models and of all models, and the same for re-paired images."""
    models = tuple(sources)
    pairs = len(models) * (len(models) - 1) // 2
    pairings = [np.arange(len(images)), *orders[: BUDDY_PERMUTATIONS * min(MOST_PAIRS, pairs) // pairs]]
    scaled = {model: ScaledRows.of(source, images) for model, source in sources.items()}
    products = chain.from_iterable(correlations(scaled, order) for order in pairings)
    bar = progress(products, total=len(pairings) * pairs, description=f"buddies in {space}", unit="product")
    coming = iter(bar)
    by_pairing = [_buddy_numbers(islice(coming, pairs), models) for _ in pairings]
    for key, value in by_pairing[0].items():
        null = np.array([numbers[key] for numbers in by_pairing[1:]])
        yield _row(*key[:1], space, *key[1:], Similarity.against(value, null))


def _buddy_numbers(
    by_pair: Iterable[tuple[Pair, Array]], models: tuple[str, ...]
) -> dict[tuple[str, str, str], float]:
    """By measure and models: shares of the smaller model's units, and the median correlation of buddies."""
    numbers: dict[tuple[str, str, str], float] = {}
    nearest, smallest = {}, np.inf
    for (one, other), values in by_pair:
        mutual, near = buddies_of(values, [1, NEAREST])
        numbers["buddies", one, other] = len(mutual.left) / min(values.shape)
        numbers["buddies_5", one, other] = len(near.left) / values.shape[0]
        numbers["buddy_correlation", one, other] = mutual.median
        nearest[one, other], smallest = mutual, min(smallest, *values.shape)
    numbers["rosetta", ALL, ALL] = len(cliques(nearest, models)) / smallest
    return numbers


def _row(measure: str, space: str, one: str, other: str, score: Similarity) -> Row:
    return {
        "measure": measure,
        "space": space,
        "model_i": one,
        "model_j": other,
        "value": score.value,
        "null_mean": score.null_mean,
        "null_sd": score.null_sd,
        "calibrated": score.calibrated,
        "p": score.p,
    }
