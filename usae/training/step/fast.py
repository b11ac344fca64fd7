"""The training step with the least arithmetic: loss and gradients of `reference_step`.

What makes it cheap, each exact: one wide dictionary [c, d_1 + ... + d_M] of concepts; k rows of it per token
instead of dense products, forward and backward; nothing for decoders that do not learn; BatchNorm folded into the
linear map (`folded_encoder.py`); the denser codes of the auxiliary term found once, without sorting; rows in
blocks that stay in the cache, so that on a CPU memory does not grow with rows x concepts (but for
`loss: frobenius`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from usae.common.runtime.ranks import Ranks
from usae.sae.sparse import SparseCodes, sparse_decode, top_k, transposed_product
from usae.sae.universal import UniversalSAE
from usae.training.step.auxiliary import Auxiliary, Codes
from usae.training.step.folded_encoder import FoldedEncoder
from usae.training.step.objectives import Objective
from usae.training.step.reference import StepLoss, StepRecipe
from usae.training.step.wide_dictionary import WideDictionary

BLOCK_ROWS = 784  # on a CPU: pre-codes of 6144 concepts are then 19 MB


@dataclass(frozen=True)
class StepBatch:
    """What the blocks of a step share. elements: (wide,) entries behind each model's mean."""

    encoder: FoldedEncoder
    activations: Sequence[Tensor]  # of each model (n, d_i)
    elements: Tensor
    learning: slice  # columns of the wide dictionary that learn
    block_rows: int

    def blocks(self) -> list[slice]:
        """Rows that are worked on together."""
        starts = range(0, len(self.activations[0]), self.block_rows)
        return [slice(start, start + self.block_rows) for start in starts]

    def targets(self, rows: slice) -> Tensor:
        """What some rows should be reconstructed to: (rows, wide)."""
        return torch.cat([tokens[rows] for tokens in self.activations], dim=1)


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
        return cls(
            indices=torch.cat([block.indices for block in blocks]),
            values=torch.cat([block.values for block in blocks]),
            gradients=torch.cat([block.gradients for block in blocks]),
            slopes=torch.cat([block.slopes for block in blocks]),
        )


class FastStep:
    """Callable like `reference_step`; keeps the normalised dictionaries until `wide.invalidate` names a model."""

    def __init__(self, sae: UniversalSAE, recipe: StepRecipe, ranks: Ranks | None = None) -> None:
        self.sae, self.recipe, self.ranks = sae, recipe, ranks or Ranks()
        self.objective, self.wide = Objective(recipe.loss), WideDictionary(sae)
        self._dtype = torch.bfloat16 if recipe.precision == "mixed" else self.wide.rows.dtype  # of what is decoded

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
        chosen = Chosen.joined([self._block(batch, rows, terms[0], auxiliary) for rows in batch.blocks()])
        gradients = self._gradients(batch, chosen)
        if auxiliary:
            auxiliary.into(*gradients)
            terms[1] = auxiliary.terms
        for total in (*gradients, terms):
            self.ranks.sum(total)
        batch.encoder.backward(*gradients[:2])
        self.wide.backward(gradients[2], learners)
        return self._loss(batch, terms, chosen)

    def reconstruct(self, codes: SparseCodes) -> dict[str, Float[Tensor, "n _"]]:
        """What codes decode to in every model, by the dictionaries of the last step (before its update)."""
        parts = sparse_decode(codes, self.wide.rows).split(self.wide.widths, dim=1)
        return dict(zip(self.sae.models, parts, strict=True))

    def _batch(self, source: str, activations: Sequence[Tensor], learning: slice) -> StepBatch:
        tokens = activations[self.sae.models.index(source)]
        block_rows = self._block_rows(tokens)
        encoder = FoldedEncoder(self.sae.part(source).encoder, tokens, self.ranks, block_rows)
        return StepBatch(encoder, activations, encoder.count * self.wide.column_widths, learning, block_rows)

    def _block_rows(self, tokens: Tensor) -> int:
        """How many are worked on together: all of them on a GPU, and where the slope needs the whole loss."""
        return len(tokens) if tokens.is_cuda or self.objective.needs_total else BLOCK_ROWS

    def _auxiliary(self, batch: StepBatch, dead: Tensor | None) -> Auxiliary | None:
        """What collects the auxiliary term; none where the recipe has none or no concept is dead."""
        codes = self._auxiliary_codes(dead)
        if codes is None:
            return None
        return Auxiliary(codes, self.recipe.aux_weight, batch.encoder.centred, batch.learning)

    def _auxiliary_codes(self, dead: Tensor | None) -> Codes | None:
        dtype = self._dtype
        if self.recipe.aux == "multi_topk":
            most = self.sae.k + self.sae.concepts // 2
            return Codes(slice(None), most, *self.wide.operands(dtype, BLOCK_ROWS))
        if self.recipe.aux == "dead" and dead is not None and dead.any():
            weight = self.wide.rows[dead].to(dtype)
            return Codes(dead.nonzero().squeeze(1), self.recipe.aux_codes, weight, weight.T)
        return None

    def _block(self, batch: StepBatch, rows: slice, terms: Tensor, auxiliary: Auxiliary | None) -> Chosen:
        """Reconstruct every model from the chosen codes of some rows, and add what the auxiliary term gives."""
        codes = batch.encoder.codes(rows)  # (rows, c)
        chosen = top_k(codes, self.sae.k)
        with torch.enable_grad():
            values = chosen.values.requires_grad_()
            decoded = sparse_decode(SparseCodes(chosen.indices, values), self.wide.rounded(self._dtype))
        target = batch.targets(rows)
        residual = target - decoded.detach()  # (rows, wide)
        slope, added = self._slope(batch, residual)
        terms += added
        (gradient,) = torch.autograd.grad(decoded, values, slope.to(decoded.dtype))  # (rows, k)
        values = values.detach()
        if auxiliary:
            left = target if self.recipe.aux == "multi_topk" else residual
            auxiliary.add(codes, left, batch.encoder.centred[rows], partial(self._slope, batch))
        return Chosen(chosen.indices, values, gradient * (values > 0), slope[:, batch.learning])

    def _gradients(self, batch: StepBatch, chosen: Chosen) -> tuple[Tensor, Tensor, Tensor]:
        """From the chosen codes: P (c, d_i) and column sums (c,) for the encoder, and the wide dictionary's."""
        indices, concepts = chosen.indices, self.sae.concepts
        products = transposed_product(indices, chosen.gradients, batch.encoder.centred, concepts)
        sums = products.new_zeros(concepts).index_add_(0, indices.flatten(), chosen.gradients.flatten())
        return products, sums, transposed_product(indices, chosen.values, chosen.slopes, concepts)

    def _slope(self, batch: StepBatch, residual: Tensor) -> tuple[Tensor, Tensor]:
        """d loss / d reconstruction (rows, wide), and the loss's terms by column (wide,).

        Where the slope needs the sum over the batch, these rows are all of it (`_block_rows`).
        """
        terms = self.objective.terms(residual).sum(0)
        whole = self._per_model(self.ranks.sum(terms.clone())) if self.objective.needs_total else terms
        return self.objective.slope(residual, whole, batch.elements), terms

    def _per_model(self, totals: Tensor) -> Tensor:
        """Each model's sum, in all of its columns."""
        sums = zip(self._sums(totals), self.wide.widths, strict=True)
        return torch.cat([total.expand(width) for total, width in sums])  # (wide,)

    def _sums(self, totals: Tensor) -> Tensor:
        """Of each model's columns: (models,)."""
        return torch.stack([part.sum() for part in totals.split(self.wide.widths)])

    def _loss(self, batch: StepBatch, terms: Tensor, chosen: Chosen) -> StepLoss:
        elements = batch.encoder.count * self.wide.model_widths
        reconstruction, auxiliary = (self.objective.value(self._sums(total), elements) for total in terms)
        total = (reconstruction + self.recipe.aux_weight * auxiliary).sum()
        return StepLoss(total, reconstruction, auxiliary, SparseCodes(chosen.indices, chosen.values))
