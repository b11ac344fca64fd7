"""A batch of paired rows, and the same rows re-paired between the models: a control (stage `train`).

Row r of every model is the same patch of the same image. Re-paired, it is a patch of another image in every model,
and nothing can be shared but what every image shares.
"""

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
    activations: raw rows of each model, float32 [n, d_j]. share (number, of): only those of the images (or rows)
    number, number + of, ...
    """

    step: int
    epoch: int
    images: np.ndarray
    activations: list[Float[Tensor, "n _"]]
    share: tuple[int, int] = (0, 1)


def shuffled_pairs(batch: Batch, seed: int) -> list[Float[Tensor, "n _"]] | None:
    """The activations, rearranged such that no two models have the same image in a row.

    The first model's rows stay. Images keep their tokens together and in place; single rows are moved where tokens
    are shuffled. A function of (seed, epoch, step) and the share. None: the batch is too small for that in some
    share (fewer images than models), so this step is to be left out by all.
    """
    number, of = batch.share
    draws = [generator(seed, "re-paired batch", batch.epoch, batch.step) for _ in range(of)]
    models = len(batch.activations)
    partners = [strangers(batch.images[i::of], models, rng) for i, rng in enumerate(draws)]
    mine = partners[number]
    if mine is None or any(partner is None for partner in partners):
        return None
    first, *others = batch.activations
    return [first, *(_rearranged(rows, mine[j]) for j, rows in enumerate(others, 1))]


def strangers(images: np.ndarray, models: int, rng: np.random.Generator) -> np.ndarray | None:
    """Orders [models, n] in which `images` (of n rows) never meet themselves; the first order is 0, 1, ..., n - 1.

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
