"""What lets an SAE be used before its first step: statistics of its pre-codes, and the scale of its codes."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from usae.activations.sampling import PairedActivations
from usae.sae.sparse import sparse_decode
from usae.sae.universal import UniversalSAE

IMAGES = 256  # whose statistics a start takes, evenly over the set


@torch.no_grad()
def calibrate(sae: UniversalSAE, data: PairedActivations) -> None:
    """Let each encoder's normalisation know the statistics of training tokens, as after many first steps.

    Pre-codes are affine in the tokens, so their means and variances follow from the tokens' mean and covariance.
    """
    images = np.linspace(0, data.images - 1, min(data.images, IMAGES)).astype(np.int64)
    for model, raw in data.rows(images).items():
        part = sae.part(model)
        rows, linear, norm = part.standardise(raw.to(sae.device)), part.encoder.linear, part.encoder.norm
        norm.get_buffer("running_mean").copy_(linear(rows.mean(0)))
        norm.get_buffer("running_var").copy_((linear.weight @ torch.cov(rows.T) * linear.weight).sum(1))


@torch.no_grad()
def point(
    sae: UniversalSAE,
    model: str,
    concepts: Float[Tensor, "c d"],
    seen: Float[Tensor, "c d"],
    rows: Float[Tensor, "n d"],
) -> None:
    """Let a model's dictionary have the directions `concepts` and its encoder look along `seen`.

    Zeros, where tokens that are all alike leave nothing for a concept, become any direction: a step divides by the
    norm. Codes get the scale that reconstructs the standardised `rows` best.
    """
    part = sae.part(model)
    for weight, directions in ((part.dictionary.weight, concepts), (part.encoder.linear.weight, seen)):
        weight.copy_(F.normalize(torch.where(directions.any(1, keepdim=True), directions, 1.0)))
    part.encoder.linear.bias.zero_()
    part.encoder.norm.weight.fill_(best_scale(sae, model, rows))


def best_scale(sae: UniversalSAE, model: str, rows: Float[Tensor, "n d"]) -> float:
    """The factor on the codes of `model` that brings its reconstruction of standardised `rows` nearest to them."""
    part = sae.part(model)
    pre = F.batch_norm(part.encoder.linear(rows), None, None, training=True)  # (n, concepts)
    reconstruction = part.gain * sparse_decode(sae.levels.top_k(pre), part.dictionary.unit())
    return (rows * reconstruction).sum().item() / reconstruction.square().sum().item()
