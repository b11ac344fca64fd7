"""The loss of one training step, literally as the authors compute it: the yardstick for `fast.py`.

loss_j = |A_j - Z D_j| + weight * aux_j, summed over the targets j; Z are the source's codes (paper eq. 5, 6). The
authors' auxiliary term decodes the top half of the codes that were not chosen and fits the residual with it. The
residual is not detached and both decodes share D_j, so aux_j = |A_j - Y D_j| where Y keeps the k + c/2 largest
codes: a second reconstruction from a denser code ("Multi-TopK", Gao et al. 2024), not a remedy for dead concepts.
That remedy is `aux: dead`: concepts that have not fired for long fit the residual, which is detached.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from usae.sae.sparse import SparseCodes, top_k
from usae.sae.universal import UniversalSAE
from usae.training.step.objectives import Loss, Objective

Learners = Literal["source", "all"]
Aux = Literal["multi_topk", "dead", "none"]
Precision = Literal["float32", "mixed"]


@dataclass(frozen=True)
class StepRecipe:
    """The switches of a step.

    loss: how far reconstructions are. update: whose decoders learn. aux: the auxiliary term, times `aux_weight`.
    aux_codes: most codes per token in `aux: dead`. precision: mixed decodes in bfloat16, forward and
    backward; the encoder, which decides what fires, stays in float32.
    """

    loss: Loss = "l1"
    update: Learners = "source"
    aux: Aux = "multi_topk"
    aux_weight: float = 0.1
    aux_codes: int = 512
    precision: Precision = "float32"


@dataclass(frozen=True)
class StepLoss:
    """One step's loss: `total` is differentiated; per target j its reconstruction loss and auxiliary term [m]."""

    total: Tensor
    reconstruction: Tensor
    auxiliary: Tensor
    codes: SparseCodes


def reference_step(
    sae: UniversalSAE,
    source: str,
    activations: Sequence[Float[Tensor, "n _"]],
    recipe: StepRecipe,
    dead: Bool[Tensor, " c"] | None = None,
) -> StepLoss:
    """One step, line by line, dense and by autograd; leaves gradients in `.grad`.

    activations: standardised rows of each model in the SAE's order. dead: concepts that `aux: dead` revives.
    Decoders that do not learn get gradients too, as in the authors' code, whose optimisers ignore them.
    """
    pre = sae.part(source).encoder(activations[sae.models.index(source)])  # (n, c)
    codes = F.relu(pre)
    chosen, indices = codes.topk(sae.k, dim=-1)
    z = torch.zeros_like(codes).scatter(-1, indices, chosen)  # (n, c)
    reconstruction, auxiliary = [], []
    for model, target in zip(sae.models, activations, strict=True):
        residual = target - z @ _decoder(sae, model)  # (n, d_j)
        reconstruction.append(_mean(recipe, residual))
        auxiliary.append(_mean(recipe, _second_residual(sae, model, codes, z, residual, recipe, dead)))
    recon, aux = torch.stack(reconstruction), torch.stack(auxiliary) * (recipe.aux != "none")
    total = (recon + recipe.aux_weight * aux).sum()
    total.backward()
    return StepLoss(total.detach(), recon.detach(), aux.detach(), SparseCodes(indices, chosen.detach()))


def _second_residual(
    sae: UniversalSAE,
    model: str,
    codes: Tensor,
    z: Tensor,
    residual: Tensor,
    recipe: StepRecipe,
    dead: Tensor | None,
) -> Tensor:
    """What the auxiliary term leaves unexplained of the first residual, [n, d_j]."""
    if recipe.aux == "dead" and dead is not None:
        revived = top_k(codes * dead, min(recipe.aux_codes, sae.concepts)).dense(sae.concepts)
        return residual.detach() - revived @ _decoder(sae, model)
    left, indices = (codes - z).topk(sae.concepts // 2, dim=1)
    u = torch.zeros_like(codes).scatter(-1, indices, left)  # (n, c)
    return residual - u @ _decoder(sae, model)


def _decoder(sae: UniversalSAE, model: str) -> Tensor:
    return sae.part(model).gain * sae.dictionary(model)


def _mean(recipe: StepRecipe, residual: Tensor) -> Tensor:
    objective = Objective(recipe.loss)
    return objective.value(objective.terms(residual).sum(), residual.numel())
