"""The training step with the least arithmetic: loss and gradients of `usae.steps.reference_step`.

What makes it cheap, each exact: one wide dictionary [c, d_1 + ... + d_M] of concepts; k rows of it per token
instead of dense products, forward and backward; nothing for decoders that do not learn; BatchNorm folded into the
linear map (`usae.folded`); the denser codes of the auxiliary term found once, without sorting; rows in blocks that
stay in the cache, so that on a CPU memory does not grow with rows x concepts (but for `loss: frobenius`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from usae.dictionaries import WideDictionary
from usae.folded import FoldedEncoder
from usae.objectives import Objective
from usae.products import linear, linear_in_bfloat16
from usae.ranks import Ranks
from usae.sae import SparseCodes, UniversalSAE, sparse_decode, top_k, transposed_product
from usae.steps import Recipe, StepLoss

BLOCK_ROWS = 784  # on a CPU: pre-codes of 6144 concepts are then 19 MB


@dataclass(frozen=True)
class Batch:
    """What the blocks of a step share. targets: (n, wide). elements: (wide,) entries behind each model's mean."""

    encoder: FoldedEncoder
    targets: Tensor
    elements: Tensor
    learning: slice  # columns of the wide dictionary that learn
    dead: Tensor | None


@dataclass(frozen=True)
class Sums:
    """What adds up over blocks and processes."""

    products: Tensor  # (c, d_i) gradients of the pre-codes times centred tokens
    gradients: Tensor  # (c,) gradients of the pre-codes
    dictionary: Tensor  # (c, learning columns) gradients of the wide dictionary
    reconstruction: Tensor  # (wide,) terms of the objective
    auxiliary: Tensor  # (wide,)


@dataclass(frozen=True)
class Chosen:
    """The chosen codes of some rows, the gradients of their values, and the slopes of the learning columns."""

    indices: Tensor  # (rows, k)
    values: Tensor  # (rows, k)
    gradients: Tensor  # (rows, k)
    slopes: Tensor  # (rows, learning columns)

    @classmethod
    def joined(cls, blocks: Sequence["Chosen"]) -> "Chosen":
        """All rows."""
        return cls(*(torch.cat(parts) for parts in zip(*(vars(block).values() for block in blocks), strict=True)))


class FastStep:
    """Callable like `reference_step`; keeps the normalised dictionaries until `wide.moved` is said of a model."""

    def __init__(self, sae: UniversalSAE, recipe: Recipe, ranks: Ranks | None = None) -> None:
        self.sae, self.recipe, self.ranks = sae, recipe, ranks or Ranks()
        self.objective, self.wide = Objective(recipe.loss), WideDictionary(sae)

    @torch.no_grad()
    def __call__(
        self, source: str, activations: Sequence[Float[Tensor, "n _"]], dead: Bool[Tensor, " c"] | None = None
    ) -> StepLoss:
        """Loss of standardised rows; leaves gradients in `.grad` of everything that learns."""
        learners = self.sae.models if self.recipe.update == "all" else (source,)
        batch = self._batch(source, activations, self.wide.columns(learners), dead)
        self.wide.refresh()
        sums = self._zeros(batch)
        chosen = Chosen.joined([self._block(batch, rows, sums) for rows in self._blocks(batch.targets)])
        self._add_sparse(batch, chosen, sums)
        for total in vars(sums).values():
            self.ranks.sum(total)
        batch.encoder.backward(sums.products, sums.gradients)
        self.wide.backward(sums.dictionary, learners)
        return self._loss(batch, sums, chosen)

    def _batch(self, source: str, activations: Sequence[Tensor], learning: slice, dead: Tensor | None) -> Batch:
        tokens = activations[self.sae.models.index(source)]
        encoder = FoldedEncoder(self.sae.part(source).encoder, tokens, self.ranks)
        widths = torch.tensor(self.wide.widths, device=tokens.device)
        elements = (encoder.count * widths).repeat_interleave(widths, output_size=sum(self.wide.widths))
        return Batch(encoder, torch.cat(list(activations), dim=1), elements, learning, dead)

    def _blocks(self, targets: Tensor) -> list[slice]:
        """Rows that are worked on together: all of them on a GPU, and where the slope needs the whole loss."""
        size = len(targets) if targets.is_cuda or self.objective.needs_total else BLOCK_ROWS
        return [slice(start, start + size) for start in range(0, len(targets), size)]

    def _block(self, batch: Batch, rows: slice, sums: Sums) -> Chosen:
        """Reconstruct every model from the chosen codes of some rows, and add what the auxiliary term gives."""
        pre = batch.encoder.pre_codes(rows)  # (rows, c)
        codes = top_k(pre, self.sae.k)
        with torch.enable_grad():
            values = codes.values.requires_grad_()
            reconstruction = sparse_decode(SparseCodes(codes.indices, values), self.wide.rows)
        residual = batch.targets[rows] - reconstruction.detach()  # (rows, wide)
        slope = self._slope(batch, residual, sums.reconstruction)
        (gradient,) = torch.autograd.grad(reconstruction, values, slope)  # (rows, k)
        if self.recipe.aux != "none":
            self._second(batch, rows, pre, residual, sums)
        values = values.detach()
        return Chosen(codes.indices, values, gradient * (values > 0), slope[:, batch.learning])

    def _second(self, batch: Batch, rows: slice, pre: Tensor, residual: Tensor, sums: Sums) -> None:
        """The auxiliary term, dense: all concepts reconstruct the targets, or dead ones the residuals."""
        concepts: slice | Tensor = slice(None)
        if self.recipe.aux == "multi_topk":
            target, codes = batch.targets[rows], largest_codes(pre, self.sae.k + self.sae.concepts // 2)
        elif batch.dead is not None and batch.dead.any():
            concepts = batch.dead.nonzero().squeeze(1)
            target, codes = residual, largest_codes(pre[:, concepts], self.recipe.aux_codes)
        else:
            return
        product = linear_in_bfloat16 if self.recipe.precision == "mixed" else linear
        slope = self._slope(batch, target - product(codes, self.wide.columns_first[:, concepts]), sums.auxiliary)
        slope *= self.recipe.aux_weight
        gradient = product(slope, self.wide.rows[concepts]).mul_(codes > 0)  # (rows, concepts)
        sums.products[concepts] += product(gradient.T, batch.encoder.centred[rows].T)
        sums.gradients[concepts] += gradient.sum(0)
        sums.dictionary[concepts] += product(codes.T, slope[:, batch.learning].T)

    def _add_sparse(self, batch: Batch, chosen: Chosen, sums: Sums) -> None:
        """What the chosen codes give: k entries per token."""
        indices, concepts = chosen.indices, self.sae.concepts
        sums.products.add_(transposed_product(indices, chosen.gradients, batch.encoder.centred, concepts))
        sums.dictionary.add_(transposed_product(indices, chosen.values, chosen.slopes, concepts))
        sums.gradients.index_add_(0, indices.flatten(), chosen.gradients.flatten())

    def _slope(self, batch: Batch, residual: Tensor, totals: Tensor) -> Tensor:
        """d loss / d reconstruction; adds the loss's terms to `totals`."""
        totals += self.objective.terms(residual).sum(0)
        whole = self._per_model(self.ranks.sum(totals.clone())) if self.objective.needs_total else totals
        return self.objective.slope(residual, whole, batch.elements)

    def _per_model(self, totals: Tensor) -> Tensor:
        """Each model's sum, in all of its columns."""
        sums = [part.sum().expand(len(part)) for part in totals.split(self.wide.widths)]
        return torch.cat(sums)  # (wide,)

    def _zeros(self, batch: Batch) -> Sums:
        wide, concepts = self.wide.rows[0], self.sae.concepts
        return Sums(
            products=wide.new_zeros(concepts, batch.encoder.centred.shape[1]),
            gradients=wide.new_zeros(concepts),
            dictionary=wide.new_zeros(concepts, len(wide[batch.learning])),
            reconstruction=wide.new_zeros(len(wide)),
            auxiliary=wide.new_zeros(len(wide)),
        )

    def _loss(self, batch: Batch, sums: Sums, chosen: Chosen) -> StepLoss:
        firsts = list(accumulate(self.wide.widths[:-1], initial=0))
        reconstruction, auxiliary = (
            self.objective.value(self._per_model(total)[firsts], batch.elements[firsts])
            for total in (sums.reconstruction, sums.auxiliary)
        )
        total = (reconstruction + self.recipe.aux_weight * auxiliary).sum()
        return StepLoss(total, reconstruction, auxiliary, SparseCodes(chosen.indices, chosen.values))


def largest_codes(pre: Float[Tensor, "n c"], count: int) -> Float[Tensor, "n c"]:
    """ReLU(pre) with only the `count` largest codes of each token kept; rows with fewer positives stay whole."""
    codes = F.relu(pre)
    if count >= pre.shape[1]:
        return codes
    crowded = (codes.sign().sum(1) > count).nonzero().squeeze(1)
    if not len(crowded):
        return codes
    rows = codes[crowded]
    kept = torch.zeros_like(rows).scatter(1, rows.topk(count, dim=1, sorted=False).indices, 1.0)
    return codes.index_copy_(0, crowded, rows * kept)
