"""The training step with the least arithmetic: loss and gradients of `usae.steps.reference_step`.

What makes it cheap, each exact: one wide dictionary [c, d_1 + ... + d_M] of concepts; k rows of it per token
instead of dense products, forward and backward; nothing for decoders that do not learn; BatchNorm folded into the
linear map (`usae.folded`); the denser codes of the auxiliary term found once, without sorting; rows in blocks that
stay in the cache, so that on a CPU memory does not grow with rows x concepts (but for `loss: frobenius`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from usae.auxiliary import Auxiliary, Codes
from usae.dictionaries import WideDictionary
from usae.folded import FoldedEncoder
from usae.objectives import Objective
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
        batch = self._batch(source, activations, self.wide.columns(learners))
        self.wide.refresh()
        auxiliary = self._auxiliary(batch, dead)
        terms = self.wide.rows.new_zeros(2, len(batch.elements))  # reconstruction, auxiliary
        chosen = Chosen.joined(
            [self._block(batch, rows, terms[0], auxiliary) for rows in self._blocks(batch.targets)]
        )
        gradients = self._gradients(batch, chosen)
        if auxiliary:
            auxiliary.into(*gradients)
            terms[1] = auxiliary.terms
        for total in (*gradients, terms):
            self.ranks.sum(total)
        batch.encoder.backward(*gradients[:2])
        self.wide.backward(gradients[2], learners)
        return self._loss(batch, terms, chosen)

    def _batch(self, source: str, activations: Sequence[Tensor], learning: slice) -> Batch:
        tokens = activations[self.sae.models.index(source)]
        encoder = FoldedEncoder(self.sae.part(source).encoder, tokens, self.ranks)
        widths = torch.tensor(self.wide.widths, device=tokens.device)
        elements = (encoder.count * widths).repeat_interleave(widths, output_size=sum(self.wide.widths))
        return Batch(encoder, torch.cat(list(activations), dim=1), elements, learning)

    def _blocks(self, targets: Tensor) -> list[slice]:
        """Rows that are worked on together: all of them on a GPU, and where the slope needs the whole loss."""
        size = len(targets) if targets.is_cuda or self.objective.needs_total else BLOCK_ROWS
        return [slice(start, start + size) for start in range(0, len(targets), size)]

    def _auxiliary(self, batch: Batch, dead: Tensor | None) -> Auxiliary | None:
        """What collects the auxiliary term; none where the recipe has none or no concept is dead."""
        codes = self._auxiliary_codes(dead)
        if codes is None:
            return None
        width, slope = batch.encoder.centred.shape[1], partial(self._slope, batch)
        return Auxiliary(codes, self.recipe.aux_weight, slope, width, batch.learning, self.wide.rows)

    def _auxiliary_codes(self, dead: Tensor | None) -> Codes | None:
        dtype = torch.bfloat16 if self.recipe.precision == "mixed" else self.wide.rows.dtype
        if self.recipe.aux == "multi_topk":
            most = self.sae.k + self.sae.concepts // 2
            return Codes(slice(None), most, *self.wide.operands(dtype, BLOCK_ROWS))
        if self.recipe.aux == "dead" and dead is not None and dead.any():
            weight = self.wide.rows[dead].to(dtype)
            return Codes(dead.nonzero().squeeze(1), self.recipe.aux_codes, weight, weight.T)
        return None

    def _block(self, batch: Batch, rows: slice, terms: Tensor, auxiliary: Auxiliary | None) -> Chosen:
        """Reconstruct every model from the chosen codes of some rows, and add what the auxiliary term gives."""
        codes = batch.encoder.codes(rows)  # (rows, c)
        chosen = top_k(codes, self.sae.k)
        with torch.enable_grad():
            values = chosen.values.requires_grad_()
            reconstruction = sparse_decode(SparseCodes(chosen.indices, values), self.wide.rows)
        residual = batch.targets[rows] - reconstruction.detach()  # (rows, wide)
        slope = self._slope(batch, residual, terms)
        (gradient,) = torch.autograd.grad(reconstruction, values, slope)  # (rows, k)
        values = values.detach()
        if auxiliary:
            target = batch.targets[rows] if self.recipe.aux == "multi_topk" else residual
            auxiliary.add(codes, target, batch.encoder.centred[rows])
        return Chosen(chosen.indices, values, gradient * (values > 0), slope[:, batch.learning])

    def _gradients(self, batch: Batch, chosen: Chosen) -> tuple[Tensor, Tensor, Tensor]:
        """From the chosen codes: P (c, d_i) and column sums (c,) for the encoder, and the wide dictionary's."""
        indices, concepts = chosen.indices, self.sae.concepts
        products = transposed_product(indices, chosen.gradients, batch.encoder.centred, concepts)
        sums = products.new_zeros(concepts).index_add_(0, indices.flatten(), chosen.gradients.flatten())
        return products, sums, transposed_product(indices, chosen.values, chosen.slopes, concepts)

    def _slope(self, batch: Batch, residual: Tensor, totals: Tensor) -> Tensor:
        """d loss / d reconstruction; adds the loss's terms to `totals`."""
        totals += self.objective.terms(residual).sum(0)
        whole = self._per_model(self.ranks.sum(totals.clone())) if self.objective.needs_total else totals
        return self.objective.slope(residual, whole, batch.elements)

    def _per_model(self, totals: Tensor) -> Tensor:
        """Each model's sum, in all of its columns."""
        sums = [part.sum().expand(len(part)) for part in totals.split(self.wide.widths)]
        return torch.cat(sums)  # (wide,)

    def _loss(self, batch: Batch, terms: Tensor, chosen: Chosen) -> StepLoss:
        firsts = list(accumulate(self.wide.widths[:-1], initial=0))
        reconstruction, auxiliary = (
            self.objective.value(self._per_model(total)[firsts], batch.elements[firsts]) for total in terms
        )
        total = (reconstruction + self.recipe.aux_weight * auxiliary).sum()
        return StepLoss(total, reconstruction, auxiliary, SparseCodes(chosen.indices, chosen.values))
