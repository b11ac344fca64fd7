"""The loss of one training step, twice: literally as the authors compute it, and the same with less arithmetic.

loss_j = mean|A_j - Z D_j| + weight * aux_j, summed over the targets j; Z are the source's codes. The authors'
auxiliary term decodes the top half of the codes that were not chosen and fits the residual with it. The residual
is not detached and both decodes share D_j, so aux_j = mean|A_j - Y D_j| where Y keeps the k + c/2 largest codes:
a second reconstruction from a denser code ("Multi-TopK", Gao et al. 2024), not a remedy for dead concepts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from usae.sae import SparseCodes, UniversalSAE, sparse_decode, top_k

Update = Literal["source", "all"]
Aux = Literal["multi_topk", "none"]


@dataclass(frozen=True)
class Recipe:
    """The switches of a step. update: whose decoders learn. aux: the auxiliary term, times `aux_weight`."""

    update: Update = "source"
    aux: Aux = "multi_topk"
    aux_weight: float = 0.1


@dataclass(frozen=True)
class StepLoss:
    """One step's loss: `total` to differentiate; per target j its reconstruction error and auxiliary term [m]."""

    total: Tensor
    reconstruction: Tensor
    auxiliary: Tensor
    codes: SparseCodes


def reference_step(
    sae: UniversalSAE, source: str, activations: Sequence[Float[Tensor, "n _"]], recipe: Recipe
) -> StepLoss:
    """The authors' step, line by line and dense; the yardstick for `fast_step` in tests.

    activations: standardised rows of each model in the SAE's order. Gradients of the decoders that do not
    learn are left in place, as in the authors' code, whose optimisers ignore them.
    """
    pre = sae.part(source).encoder(activations[sae.models.index(source)])  # (n, c)
    codes = F.relu(pre)
    chosen, indices = codes.topk(sae.k, dim=-1)
    z = torch.zeros_like(codes).scatter(-1, indices, chosen)  # (n, c)
    reconstruction, auxiliary = [], []
    for model, target in zip(sae.models, activations, strict=True):
        residual = target - z @ sae.dictionary(model)  # (n, d_j)
        reconstruction.append(residual.abs().mean())
        left, left_indices = (codes - z).topk(sae.concepts // 2, dim=1)
        u = torch.zeros_like(codes).scatter(-1, left_indices, left)  # (n, c)
        auxiliary.append((residual - u @ sae.dictionary(model)).abs().mean())
    recon, aux = torch.stack(reconstruction), torch.stack(auxiliary)
    weight = recipe.aux_weight if recipe.aux == "multi_topk" else 0.0
    return StepLoss(
        (recon + weight * aux).sum(), recon, aux * (recipe.aux != "none"), SparseCodes(indices, chosen)
    )


def fast_step(
    sae: UniversalSAE, source: str, activations: Sequence[Float[Tensor, "n _"]], recipe: Recipe
) -> StepLoss:
    """The same loss and gradients for everything that learns; the other decoders get none.

    All decoders are one wide dictionary [c, d_1 + ... + d_M], normalised once; the main decode gathers k rows
    per token; Y is found once, without sorting.
    """
    pre = sae.part(source).encoder(activations[sae.models.index(source)])  # (n, c)
    codes = top_k(pre, sae.k)
    wide = torch.cat([_learning(sae, model, source, recipe) for model in sae.models], dim=1)  # (c, sum of d)
    targets = torch.cat(list(activations), dim=1)  # (n, sum of d)
    reconstruction = _errors(sae, targets - sparse_decode(codes, wide))
    if recipe.aux == "none":
        return StepLoss(reconstruction.sum(), reconstruction, torch.zeros_like(reconstruction), codes)
    auxiliary = _errors(sae, targets - largest_codes(pre, sae.k + sae.concepts // 2) @ wide)
    total = (reconstruction + recipe.aux_weight * auxiliary).sum()
    return StepLoss(total, reconstruction, auxiliary, codes)


def largest_codes(pre: Float[Tensor, "n c"], count: int) -> Float[Tensor, "n c"]:
    """ReLU(pre) with only the `count` largest codes of each token kept; rows with fewer positives stay whole."""
    codes = F.relu(pre)
    crowded = ((codes > 0).sum(1) > count).nonzero().squeeze(1)
    if not len(crowded):
        return codes
    rows = codes[crowded]
    kept = torch.zeros_like(rows, dtype=torch.bool).scatter(1, rows.topk(count, dim=1, sorted=False).indices, True)
    return codes.index_put((crowded,), rows * kept)


def _learning(sae: UniversalSAE, model: str, source: str, recipe: Recipe) -> Tensor:
    """The unit dictionary of `model`, cut off from gradients where this step does not train it."""
    unit = sae.dictionary(model)
    return unit if recipe.update == "all" or model == source else unit.detach()


def _errors(sae: UniversalSAE, residual: Float[Tensor, "n wide"]) -> Float[Tensor, " m"]:
    """Mean absolute error of each model's columns."""
    widths = [sae.widths[model] for model in sae.models]
    return torch.stack([columns.abs().mean() for columns in residual.split(widths, dim=1)])
