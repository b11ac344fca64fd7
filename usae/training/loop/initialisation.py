"""An SAE before its first step: statistics of the activations, and where its concepts start.

`random` is the authors' start. `paired` puts concept c of every model at one token (image, position), the same in
all of them, so that the shared space is aligned before anything is learnt.
"""

import math
import statistics
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from usae.activations.sampling import PairedActivations, mismatched_orders
from usae.activations.store.manifests import Manifest
from usae.common.errors import UserError
from usae.common.params import Pairs, TrainParams
from usae.common.seeds import generator, seed_of
from usae.sae.sparse import sparse_decode, top_k
from usae.sae.universal import UniversalSAE

SCALE_IMAGES = 32  # images on which the first codes are scaled


def new_sae(
    manifests: Mapping[str, Manifest],
    data: PairedActivations,
    params: TrainParams,
    *,
    k: int,
    seed: int,
    pairs: Pairs = "matched",
) -> UniversalSAE:
    """An SAE before training, with the statistics and the identity of each model's activations.

    Raises:
        UserError: `init: paired` has fewer training tokens than concepts.
    """
    torch.manual_seed(seed_of(seed, "first weights"))
    about = {
        "models": {model: _about(manifest) for model, manifest in manifests.items()},
        "train": params.model_dump(),
        "seed": seed,
    }
    sae = UniversalSAE({m: manifest.width for m, manifest in manifests.items()}, params.dictionary, k, about)
    for model, manifest in manifests.items():
        set_statistics(sae, model, manifest, params)
    if params.init == "paired":
        paired_init(sae, data, manifests, seed, pairs)
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
    seed: int,
    pairs: Pairs = "matched",
) -> None:
    """Start concept c of every model at one token (image, position), the same in all of them.

    D_j[c] is that token's direction in model j; the encoder's row is the same direction seen from the mean token.
    Codes start at the scale that reconstructs best. With shuffled pairs the tokens are those of other images in
    every model, at the same position.

    Raises:
        UserError: there are fewer training tokens than concepts.
    """
    tokens = data.tokens
    if data.images * tokens < sae.concepts:
        raise UserError(
            f"`train.init: paired` starts every concept at a token of its own, but {data.images} images with "
            f"{tokens} tokens are fewer than the {sae.concepts} concepts; lower `train.dictionary`."
        )
    drawn = generator(seed, "paired start").choice(data.images * tokens, sae.concepts, replace=False)
    images, positions = np.divmod(drawn, tokens)
    starting = [images] * len(sae.models) if pairs == "matched" else apart(images, len(sae.models), seed)
    sample = data.rows(np.arange(min(data.images, SCALE_IMAGES)))
    for model, own_images in zip(sae.models, starting, strict=True):
        part = sae.part(model)
        starts = part.standardise(data.tokens_at(model, own_images, positions))  # (concepts, width)
        centre = part.standardise(torch.tensor(manifests[model].channel_mean))  # (width,)
        part.dictionary.weight.copy_(F.normalize(starts))
        part.encoder.linear.weight.copy_(F.normalize(starts - centre))
        part.encoder.linear.bias.zero_()
        part.encoder.norm.weight.fill_(best_scale(sae, model, part.standardise(sample[model])))


def apart(images: np.ndarray, models: int, seed: int) -> list[np.ndarray]:
    """`images` in another order for every model, such that no image meets itself.

    Raises:
        UserError: there are too few.
    """
    orders = mismatched_orders(images, models, generator(seed, "paired start, re-paired"))
    if orders is None:
        raise UserError(
            f"`train.pairs: shuffled` starts a concept at another image in each of the {models} models, but its "
            f"{len(images)} tokens come from {len(np.unique(images))} images; take more images."
        )
    return [images[order] for order in orders]


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
