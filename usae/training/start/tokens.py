"""Concepts that start at one token each, and the images that the tokens are of."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from usae.activations.sampling import PairedActivations
from usae.common.errors import UserError
from usae.common.seeds import generator
from usae.common.variant import Variant
from usae.sae.universal import UniversalSAE
from usae.training.start.calibration import point

SCALE_IMAGES = 32  # images on which the first codes are scaled


@torch.no_grad()
def start_at_tokens(
    sae: UniversalSAE, data: PairedActivations, means: Mapping[str, Tensor], variant: Variant
) -> dict[str, Tensor]:
    """Start concept c of every model at one token (image, position), the same in all of them.

    D_j[c] is that token's direction in model j; the encoder's row is the same direction seen from the mean token
    (means: raw). Codes start at the scale that reconstructs best. With shuffled pairs the tokens are those of
    other images, at the same position: in every model, or in the stranger alone. Returns the tokens, standardised:
    (c, d) by model.

    Raises:
        UserError: there are fewer training tokens than concepts.
    """
    check_tokens(data, sae.concepts, "paired")
    drawn = generator(variant.seed, "paired start").choice(data.images * data.tokens, sae.concepts, replace=False)
    images, positions = np.divmod(drawn, data.tokens)
    starting, tokens = starting_images(images, data.images, sae.models, variant), {}
    sample = data.rows(np.arange(min(data.images, SCALE_IMAGES)))
    for model, own_images in zip(sae.models, starting, strict=True):
        part = sae.part(model)
        starts = part.standardise(data.tokens_at(model, own_images, positions))  # (concepts, width)
        point(sae, model, starts, starts - part.standardise(means[model]), part.standardise(sample[model]))
        tokens[model] = starts
    return tokens


def check_tokens(data: PairedActivations, concepts: int, start: str) -> None:
    """There must be a token for every concept.

    Raises:
        UserError: there is not.
    """
    if data.images * data.tokens < concepts:
        raise UserError(
            f"`train.init: {start}` starts every concept at a token of its own, but {data.images} images with "
            f"{data.tokens} tokens are fewer than the {concepts} concepts; lower `train.dictionary`."
        )


def starting_images(images: np.ndarray, total: int, models: Sequence[str], variant: Variant) -> list[np.ndarray]:
    """The image of each concept's first token for every model, of `total`: `images`, or others where re-paired.

    All images lie on a circle in random order, and each model goes one further than the one before.

    Raises:
        UserError: there are too few to re-pair.
    """
    if variant.pairs == "matched":
        return [images] * len(models)
    if total < len(models):
        raise UserError(
            f"`train.pairs: shuffled` starts a concept at another image in each of the {len(models)} models, but "
            f"there are {total} images; take more."
        )
    circle = generator(variant.seed, "paired start, re-paired").permutation(total)
    place = np.argsort(circle)[images]
    others = [circle[(place + number) % total] for number in range(len(models))]
    if variant.stranger is None:
        return others
    return [others[1] if model == variant.stranger else images for model in models]
