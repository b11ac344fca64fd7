"""An SAE before its first step: statistics of the activations, and where its concepts start.

`random` is the authors' start. `paired` puts concept c of every model at one token (image, position), the same in
all of them, so that the shared space is aligned before anything is learnt.
"""

import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from usae.activations.sampling import PairedActivations
from usae.activations.store.manifests import Manifest
from usae.common.errors import UserError
from usae.common.params import TrainParams
from usae.common.seeds import generator, seed_of
from usae.common.variant import Variant
from usae.sae.sparse import sparse_decode, top_k
from usae.sae.universal import UniversalSAE

SCALE_IMAGES = 32  # images on which the first codes are scaled
CALIBRATION_IMAGES = 256  # images whose statistics a start takes, evenly over the set


def new_sae(
    manifests: Mapping[str, Manifest],
    data: PairedActivations,
    params: TrainParams,
    variant: Variant,
) -> UniversalSAE:
    """An SAE before training, with the statistics and the identity of each model's activations.

    data: what it is to be trained on.

    Raises:
        UserError: `init: paired` has fewer training tokens than concepts.
    """
    torch.manual_seed(seed_of(variant.seed, "first weights"))
    about = {
        "models": {model: _about(manifest) for model, manifest in manifests.items()},
        "train": params.model_dump(),
        "seed": variant.seed,
    }
    sae = UniversalSAE(
        {m: manifest.width for m, manifest in manifests.items()}, params.dictionary, variant.k, about
    )
    for model, manifest in manifests.items():
        set_statistics(sae, model, manifest, params)
    if params.init == "paired":
        paired_init(sae, data, manifests, variant)
    return sae


def set_statistics(sae: UniversalSAE, model: str, manifest: Manifest, params: TrainParams) -> None:
    """The units of one model's activations, from its manifest."""
    part = sae.part(model)
    if params.standardize == "scalar":
        part.mean.fill_(manifest.mean)
        part.std.fill_(manifest.std)
    else:
        part.mean.copy_(torch.tensor(manifest.channel_mean))
        part.std.copy_(torch.tensor(manifest.channel_std))
    if params.gain == "width":  # a token's norm grows with the root of its width
        part.gain.fill_(math.sqrt(manifest.width / statistics.mean(sae.widths.values())))


@torch.no_grad()
def paired_init(
    sae: UniversalSAE,
    data: PairedActivations,
    manifests: Mapping[str, Manifest],
    variant: Variant,
) -> None:
    """Start concept c of every model at one token (image, position), the same in all of them.

    D_j[c] is that token's direction in model j; the encoder's row is the same direction seen from the mean token.
    Codes start at the scale that reconstructs best. With shuffled pairs the tokens are those of other images, at
    the same position: in every model, or in the stranger alone.

    Raises:
        UserError: there are fewer training tokens than concepts.
    """
    tokens = data.tokens
    if data.images * tokens < sae.concepts:
        raise UserError(
            f"`train.init: paired` starts every concept at a token of its own, but {data.images} images with "
            f"{tokens} tokens are fewer than the {sae.concepts} concepts; lower `train.dictionary`."
        )
    drawn = generator(variant.seed, "paired start").choice(data.images * tokens, sae.concepts, replace=False)
    images, positions = np.divmod(drawn, tokens)
    starting = starting_images(images, data.images, sae.models, variant)
    sample = data.rows(np.arange(min(data.images, SCALE_IMAGES)))
    for model, own_images in zip(sae.models, starting, strict=True):
        part = sae.part(model)
        starts = part.standardise(data.tokens_at(model, own_images, positions))  # (concepts, width)
        centre = part.standardise(torch.tensor(manifests[model].channel_mean))  # (width,)
        part.dictionary.weight.copy_(F.normalize(starts))
        part.encoder.linear.weight.copy_(F.normalize(starts - centre))
        part.encoder.linear.bias.zero_()
        part.encoder.norm.weight.fill_(best_scale(sae, model, part.standardise(sample[model])))


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


@torch.no_grad()
def calibrate(sae: UniversalSAE, data: PairedActivations) -> None:
    """Let each encoder's normalisation know the statistics of training tokens, as after many first steps.

    Pre-codes are affine in the tokens, so their means and variances follow from the tokens' mean and covariance.
    """
    images = np.linspace(0, data.images - 1, min(data.images, CALIBRATION_IMAGES)).astype(np.int64)
    for model, raw in data.rows(images).items():
        part = sae.part(model)
        rows, linear, norm = part.standardise(raw.to(sae.device)), part.encoder.linear, part.encoder.norm
        norm.get_buffer("running_mean").copy_(linear(rows.mean(0)))
        norm.get_buffer("running_var").copy_((linear.weight @ torch.cov(rows.T) * linear.weight).sum(1))


def best_scale(sae: UniversalSAE, model: str, rows: Float[Tensor, "n d"]) -> float:
    """The factor on the codes of `model` that brings its reconstruction of standardised `rows` nearest to them."""
    part = sae.part(model)
    pre = F.batch_norm(part.encoder.linear(rows), None, None, training=True)  # (n, concepts)
    reconstruction = part.gain * sparse_decode(top_k(pre, sae.k), part.dictionary.unit())
    return (rows * reconstruction).sum().item() / reconstruction.square().sum().item()


def _about(manifest: Manifest) -> dict[str, object]:
    """Which activations these are: enough to extract them again."""
    keys = ("backbone", "layer", "norm", "grid", "fit", "mean", "std", "statistics", "statistics_images")
    return {key: getattr(manifest, key) for key in keys}
