"""The loss of one training step, literally as the authors compute it: the yardstick for `fast.py`.

loss_j = |A_j - Z D_j| + weight * aux_j, summed over the targets j; Z are the source's codes (paper eq. 5, 6). The
authors' auxiliary term decodes the top half of the codes that were not chosen and fits the residual with it. The
residual is not detached and both decodes share D_j, so aux_j = |A_j - Y D_j| where Y keeps the k + c/2 largest
codes: a second reconstruction from a denser code ("Multi-TopK", Gao et al. 2024), not a remedy for dead concepts.
That remedy is `aux: dead`: concepts that have not fired for long fit the residual, which is detached.
"""

from collections.abc import Mapping, Sequence
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
    """One step's loss: `total` is differentiated; per target j its reconstruction loss and auxiliary term [m].

    Means over sources, the first over levels too. codes: of each source's rows.
    """

    total: Tensor
    reconstruction: Tensor
    auxiliary: Tensor
    codes: dict[str, SparseCodes]


def reference_step(
    sae: UniversalSAE,
    sources: Mapping[str, Sequence[Float[Tensor, "n _"]]],
    recipe: StepRecipe,
    dead: Mapping[str, Bool[Tensor, " c"]] | None = None,
) -> StepLoss:
    """One step, line by line, dense and by autograd; leaves gradients in `.grad`.

    sources: the models that are encoded, the authors' step has one; with the standardised rows of each model in
    the SAE's order. The loss is the mean over the sources. Of a dictionary of several levels it is the mean over
    their prefixes, each of which reconstructs by itself (Bussmann et al. 2025). dead: concepts that `aux: dead`
    revives, by source. Decoders that do not learn get gradients too, as in the authors' code, whose optimisers
    ignore them.
    """
    terms = [_terms(sae, source, rows, recipe, dead[source] if dead else None) for source, rows in sources.items()]
    reconstruction, auxiliary, codes = zip(*terms, strict=True)
    recon, aux = torch.stack(reconstruction).mean(0), torch.stack(auxiliary).mean(0) * (recipe.aux != "none")
    total = (recon + recipe.aux_weight * aux).sum()
    total.backward()
    return StepLoss(total.detach(), recon.detach(), aux.detach(), dict(zip(sources, codes, strict=True)))


def _terms(
    sae: UniversalSAE,
    source: str,
    activations: Sequence[Float[Tensor, "n _"]],
    recipe: StepRecipe,
    dead: Bool[Tensor, " c"] | None,
) -> tuple[Tensor, Tensor, SparseCodes]:
    """From one source: per target its reconstruction loss and auxiliary term [m], and the codes."""
    codes = F.relu(sae.part(source).encoder(activations[sae.models.index(source)]))  # (n, c)
    z, prefixes, chosen = torch.zeros_like(codes), [], []
    for concepts, own in zip(sae.levels.concepts, sae.levels.codes, strict=True):
        values, indices = codes[:, concepts].topk(own.stop - own.start, dim=-1)
        z = z.scatter(-1, indices + concepts.start, values)  # (n, c): of this level and those before
        prefixes.append(z)
        chosen.append((indices + concepts.start, values.detach()))
    reconstruction, auxiliary = [], []
    for model, target in zip(sae.models, activations, strict=True):
        residuals = [target - prefix @ _decoder(sae, model) for prefix in prefixes]  # (n, d_j) each
        reconstruction.append(torch.stack([_mean(recipe, residual) for residual in residuals]).mean())
        second = _second_residual(sae, model, codes, z, residuals[-1], recipe, dead)
        auxiliary.append(_mean(recipe, second))
    found = SparseCodes(*(torch.cat(part, -1) for part in zip(*chosen, strict=True)))
    return torch.stack(reconstruction), torch.stack(auxiliary), found


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
