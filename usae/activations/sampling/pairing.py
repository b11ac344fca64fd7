"""A batch of paired rows, and the same rows re-paired between the models: a control (stage `controls`).

Row r of every model is the same patch of the same image. Re-paired, it is the patch at the same position of
another image, and nothing can be shared but what every image shows there.
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

    images: the whole batch's images, each with all its tokens. With shuffled tokens: the image of every row, and
    positions: its place in the image; else None. activations: raw rows by model, float32 [n, d_j].
    share (number, of): only those of the images (or rows) number, number + of, ...
    """

    step: int
    epoch: int
    images: np.ndarray
    activations: Mapping[str, Float[Tensor, "n _"]]
    share: tuple[int, int] = (0, 1)
    positions: np.ndarray | None = None


def shuffled_pairs(batch: Batch, seed: int, stranger: str | None = None) -> dict[str, Float[Tensor, "n _"]] | None:
    """The activations, rearranged such that no two models have the same image in a row, and all its position.

    stranger: the one model whose images move, while the others keep theirs; None: no two models share any. Rows at
    a position that has fewer images than models in the batch are left out. A function of (seed, epoch, step) and
    the share. None: nothing is left in some share, so this step is to be left out by all.
    """
    own, of = batch.share
    models = len(batch.activations)
    shares = []
    for number in range(of):
        rng = generator(seed, "re-paired batch", batch.epoch, batch.step, number)
        positions = None if batch.positions is None else batch.positions[number::of]
        shares.append(mismatched_orders(batch.images[number::of], models, rng, positions))
    if any(not orders.shape[1] for orders in shares):
        return None
    orders, mine = list(shares[own]), len(batch.images[own::of])
    if stranger is not None:
        orders = [orders[1] if model == stranger else orders[0] for model in batch.activations]
    pairs = zip(batch.activations.items(), orders, strict=True)
    return {model: _rearranged(rows, order, mine) for (model, rows), order in pairs}


def mismatched_orders(
    images: np.ndarray, models: int, rng: np.random.Generator, positions: np.ndarray | None = None
) -> np.ndarray:
    """Rows [models, n] of which no two models see the same image in a row, and all the same position.

    images (rows,): none twice at one position; positions (rows,): None, all rows are at one. The first order has
    the rows as they come, without those at positions that have fewer images than models. A position's rows are
    laid out in random order, and each model starts one row further.
    """
    position = np.zeros(len(images), np.int64) if positions is None else positions
    layout = np.lexsort((rng.random(len(images)), position))  # by position, at random within
    starts = np.flatnonzero(np.diff(position[layout], prepend=-1))
    sizes = np.diff(np.append(starts, len(images)))
    start, size = np.repeat(starts, sizes), np.repeat(sizes, sizes)
    place = np.arange(len(images)) - start
    further = (layout[start + (place + model) % np.maximum(size, 1)] for model in range(models))
    orders = np.empty((models, len(images)), np.int64)
    orders[:, layout] = np.stack(list(further)) if len(images) else 0
    kept = np.ones(len(images), bool)
    kept[layout] = size >= models
    return orders[:, kept]


def _rearranged(rows: Float[Tensor, "n d"], order: np.ndarray, images: int) -> Float[Tensor, "r d"]:
    """Rows of `images`, each with as many, in that order of images."""
    index = torch.from_numpy(order).to(rows.device)
    return rows.reshape(images, -1, rows.shape[1]).index_select(0, index).flatten(0, 1)
