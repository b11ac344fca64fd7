"""A batch of paired rows, and the same rows re-paired between the models: a control (stage `train`).

Row r of every model is the same patch of the same image. Re-paired, it is a patch of another image in every model,
and nothing can be shared but what every image shares.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from usae.common.seeds import generator


@dataclass(frozen=True)
class Batch:
    """The rows of a step.

    images: the whole batch's images, each with all its tokens; with shuffled tokens the image of every row.
    activations: raw rows by model, float32 [n, d_j]. share (number, of): only those of the images (or rows)
    number, number + of, ...
    """

    step: int
    epoch: int
    images: np.ndarray
    activations: Mapping[str, Float[Tensor, "n _"]]
    share: tuple[int, int] = (0, 1)


def shuffled_pairs(batch: Batch, seed: int) -> dict[str, Float[Tensor, "n _"]] | None:
    """The activations, rearranged such that no two models have the same image in a row.

    The first model's rows stay. Images keep their tokens together and in place; single rows are moved where tokens
    are shuffled. A function of (seed, epoch, step) and the share. None: the batch is too small for that in some
    share (fewer images than models), so this step is to be left out by all.
    """
    own, of = batch.share
    draws = [generator(seed, "re-paired batch", batch.epoch, batch.step) for _ in range(of)]
    models = len(batch.activations)
    orders = [mismatched_orders(batch.images[i::of], models, rng) for i, rng in enumerate(draws)]
    mine = orders[own]
    if mine is None or any(order is None for order in orders):
        return None
    rows = zip(batch.activations.items(), mine, strict=True)
    return {model: _rearranged(tokens, order) if j else tokens for j, ((model, tokens), order) in enumerate(rows)}


def mismatched_orders(images: np.ndarray, models: int, rng: np.random.Generator) -> np.ndarray | None:
    """Permutations [models, n] in which no two models see the same image in a row; the first is 0, 1, ..., n - 1.

    Rows are laid out image by image, images in random order, and each model starts as many rows further as the
    commonest image has. None: it has too large a share of the rows for that.
    """
    if not len(images):
        return None
    _, image, counts = np.unique(images, return_inverse=True, return_counts=True)
    stride = int(counts.max())
    if models * stride > len(images):
        return None
    layout = np.argsort(rng.permutation(len(counts))[image], kind="stable")
    orders = np.empty((models, len(images)), np.int64)
    for model in range(models):
        orders[model, layout] = np.roll(layout, -model * stride)
    return orders


def _rearranged(rows: Float[Tensor, "n d"], partners: np.ndarray) -> Float[Tensor, "n d"]:
    index = torch.from_numpy(partners).to(rows.device)
    grouped = rows.reshape(len(partners), -1, rows.shape[1])  # (images, tokens, width)
    return grouped.index_select(0, index).flatten(0, 1)
