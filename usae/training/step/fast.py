"""The training step with the least arithmetic: loss and gradients of `reference_step`.

What makes it cheap, each exact: one wide dictionary [c, d_1 + ... + d_M] of concepts; k rows of it per token
instead of dense products, forward and backward; nothing for decoders that do not learn; BatchNorm folded into the
linear map (`folded_encoder.py`); the denser codes of the auxiliary term found once, without sorting; each level of
concepts decoded once, whatever prefixes it is part of; rows in blocks that stay in the cache, so that on a CPU
memory does not grow with rows x concepts (but for `loss: frobenius`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from usae.common.runtime.ranks import Ranks
from usae.sae.sparse import SparseCodes
from usae.sae.universal import UniversalSAE
from usae.training.step.auxiliary import Auxiliary, Codes
from usae.training.step.folded_encoder import FoldedEncoder
from usae.training.step.objectives import Objective
from usae.training.step.products import Groups, SparseProducts
from usae.training.step.reference import StepLoss, StepRecipe
from usae.training.step.wide_dictionary import WideDictionary

BLOCK_ROWS = 784  # on a CPU: pre-codes of 6144 concepts are then 19 MB


@dataclass(frozen=True)
class StepBatch:
    """What the blocks of one source share. elements: (wide,) entries behind each model's mean.

    weight: of the source in the step's loss.
    """

    encoder: FoldedEncoder
    activations: Sequence[Tensor]  # of each model (n, d_i)
    elements: Tensor
    learning: slice  # columns of the wide dictionary that learn
    block_rows: int
    weight: float

    def blocks(self) -> list[slice]:
        """Rows that are worked on together."""
        starts = range(0, len(self.activations[0]), self.block_rows)
        return [slice(start, start + self.block_rows) for start in starts]

    def targets(self, rows: slice) -> Tensor:
        """What some rows should be reconstructed to: (rows, wide)."""
        return torch.cat([tokens[rows] for tokens in self.activations], dim=1)


@dataclass(frozen=True)
class Chosen:
    """The chosen codes of some rows, the gradients of their values, and slopes of the learning columns."""

    indices: Tensor  # (rows, k)
    values: Tensor  # (rows, k)
    gradients: Tensor  # (rows, k)
    slopes: Sequence[Tensor]  # (rows, learning columns) each

    @classmethod
    def joined(cls, blocks: Sequence["Chosen"]) -> "Chosen":
        """All rows."""
        return cls(
            indices=torch.cat([block.indices for block in blocks]),
            values=torch.cat([block.values for block in blocks]),
            gradients=torch.cat([block.gradients for block in blocks]),
            slopes=[torch.cat(parts) for parts in zip(*(block.slopes for block in blocks), strict=True)],
        )


class FastStep:
    """Callable like `reference_step`; keeps the normalised dictionaries until `wide.invalidate` names a model."""

    def __init__(
        self,
        sae: UniversalSAE,
        recipe: StepRecipe,
        ranks: Ranks | None = None,
        products: SparseProducts | None = None,
    ) -> None:
        self.sae, self.recipe, self.ranks = sae, recipe, ranks or Ranks()
        self.products = products or SparseProducts()
        self.objective, self.wide = Objective(recipe.loss), WideDictionary(sae)
        self._dtype = torch.bfloat16 if recipe.precision == "mixed" else self.wide.rows.dtype  # of what is decoded

    @torch.no_grad()
    def __call__(
        self,
        sources: Mapping[str, Sequence[Float[Tensor, "n _"]]],
        dead: Mapping[str, Bool[Tensor, " c"]] | None = None,
    ) -> StepLoss:
        """Loss of standardised rows; leaves gradients in `.grad` of everything that learns."""
        everyone = self.recipe.update == "all"
        learners = [model for model in self.sae.models if everyone or model in sources]  # one, or all
        columns = self.wide.columns(learners)
        wide = self.wide.refresh()
        gradient = wide.new_zeros(len(wide), len(range(*columns.indices(wide.shape[1]))))
        losses, codes = [], {}
        for source, activations in sources.items():
            batch = self._batch(source, activations, columns, 1 / len(sources))
            loss, found, own = self._source(batch, dead[source] if dead else None)
            losses.append(loss * batch.weight)
            codes[source] = found
            gradient += own
        self.wide.backward(gradient, learners)
        reconstruction, auxiliary = torch.stack(losses).sum(0)
        total = (reconstruction + self.recipe.aux_weight * auxiliary).sum()
        return StepLoss(total, reconstruction, auxiliary, codes)

    def invalidate(self, *models: str) -> None:
        """The weights of these models have changed."""
        self.wide.invalidate(*models)

    def reconstruct(self, codes: SparseCodes) -> dict[str, Float[Tensor, "n _"]]:
        """What codes decode to in every model, by the dictionaries of the last step (before its update)."""
        parts = self.products.decode(codes, self.wide.rows).split(self.wide.widths, dim=1)
        return dict(zip(self.sae.models, parts, strict=True))

    def _source(self, batch: StepBatch, dead: Tensor | None) -> tuple[Tensor, SparseCodes, Tensor]:
        """One source's losses (2, models), codes, dictionaries' gradient (c, columns); sets its encoder's."""
        auxiliary = self._auxiliary(batch, dead)
        terms = self.wide.rows.new_zeros(len(self.sae.levels) + 1, len(batch.elements))  # prefixes, auxiliary
        chosen = Chosen.joined([self._block(batch, rows, terms, auxiliary) for rows in batch.blocks()])
        gradients = self._gradients(batch, chosen)
        if auxiliary:
            auxiliary.into(*gradients)
            terms[-1] = auxiliary.terms
        for total in (*gradients, terms):
            self.ranks.sum(total)
        batch.encoder.backward(*gradients[:2])
        return self._losses(batch, terms), SparseCodes(chosen.indices, chosen.values), gradients[2]

    def _batch(self, source: str, activations: Sequence[Tensor], learning: slice, weight: float) -> StepBatch:
        tokens = activations[self.sae.models.index(source)]
        block_rows = self._block_rows(tokens)
        encoder = FoldedEncoder(self.sae.part(source).encoder, tokens, self.ranks, block_rows)
        elements = encoder.count * self.wide.column_widths
        return StepBatch(encoder, activations, elements, learning, block_rows, weight)

    def _block_rows(self, tokens: Tensor) -> int:
        """How many are worked on together: all of them on a GPU, and where the slope needs the whole loss."""
        return len(tokens) if tokens.is_cuda or self.objective.needs_total else BLOCK_ROWS

    def _auxiliary(self, batch: StepBatch, dead: Tensor | None) -> Auxiliary | None:
        """What collects the auxiliary term; none where the recipe has none or no concept is dead."""
        codes = self._auxiliary_codes(dead)
        if codes is None:
            return None
        keep = self.products.keep_largest
        return Auxiliary(codes, self.recipe.aux_weight, batch.encoder.centred, batch.learning, keep)

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
        codes = batch.encoder.codes(rows, self.products.needs_relu)  # (rows, c)
        chosen = self.products.top_k(self.sae.levels, codes)
        values, decoded = self._decoded(chosen)
        target = batch.targets(rows)
        residual, slopes = target, []
        for level, part in enumerate(decoded):
            residual = residual - part.detach()  # (rows, wide)
            slope, added = self._slope(batch, residual, batch.weight / len(decoded))
            slopes.append(slope)
            terms[level] += added
        for level in reversed(range(len(slopes) - 1)):  # a level is part of its prefix, and of all larger ones
            slopes[level] += slopes[level + 1]
        gradients = [
            torch.autograd.grad(part, own, slope.to(part.dtype))[0]
            for part, own, slope in zip(decoded, values, slopes, strict=True)
        ]
        gradient = torch.cat(gradients, 1) * (chosen.values > 0)  # (rows, k)
        if auxiliary:
            left = target if self.recipe.aux == "multi_topk" else residual
            slope_of = partial(self._slope, batch, weight=batch.weight)
            auxiliary.add(codes, left, batch.encoder.centred[rows], slope_of)
        return Chosen(chosen.indices, chosen.values, gradient, [slope[:, batch.learning] for slope in slopes])

    @torch.enable_grad()
    def _decoded(self, chosen: SparseCodes) -> tuple[list[Tensor], list[Tensor]]:
        """The values of each level's codes (rows, its k), and what they add to all models (rows, wide)."""
        parts = self.sae.levels.codes
        values = [chosen.values[:, part].requires_grad_() for part in parts]
        pairs = zip(parts, values, strict=True)
        wide = self.wide.rounded(self._dtype)
        decode = self.products.decode
        return values, [decode(SparseCodes(chosen.indices[:, part], own), wide) for part, own in pairs]

    def _gradients(self, batch: StepBatch, chosen: Chosen) -> tuple[Tensor, Tensor, Tensor]:
        """From the chosen codes: P (c, d_i) and column sums (c,) for the encoder, and the wide dictionary's."""
        groups = self.products.groups(chosen.indices, self.sae.concepts)
        products = groups.sum(chosen.gradients, batch.encoder.centred)
        levels = zip(self._by_level(chosen.indices, groups), self.sae.levels.codes, chosen.slopes, strict=True)
        dictionary = [level.sum(chosen.values[:, own], slope) for level, own, slope in levels]
        return products, groups.sum_values(chosen.gradients), torch.cat(dictionary)

    def _by_level(self, indices: Tensor, groups: Groups) -> list[Groups]:
        """The groups of each level's concepts; `groups`: of all."""
        if len(self.sae.levels) == 1:
            return [groups]
        levels = zip(self.sae.levels.concepts, self.sae.levels.codes, strict=True)
        return [self.products.groups(indices[:, own] - of.start, of.stop - of.start) for of, own in levels]

    def _slope(self, batch: StepBatch, residual: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        """weight * d loss / d reconstruction (rows, wide), and the loss's terms by column (wide,).

        Where the slope needs the sum over the batch, these rows are all of it (`_block_rows`).
        """
        terms = self.objective.terms(residual).sum(0)
        whole = self._per_model(self.ranks.sum(terms.clone())) if self.objective.needs_total else terms
        return self.objective.slope(residual, whole, batch.elements, weight), terms

    def _per_model(self, totals: Tensor) -> Tensor:
        """Each model's sum, in all of its columns."""
        sums = zip(self._sums(totals), self.wide.widths, strict=True)
        return torch.cat([total.expand(width) for total, width in sums])  # (wide,)

    def _sums(self, totals: Tensor) -> Tensor:
        """Of each model's columns: (models,)."""
        return torch.stack([part.sum() for part in totals.split(self.wide.widths)])

    def _losses(self, batch: StepBatch, terms: Tensor) -> Tensor:
        """(2, models): reconstruction, the mean over prefixes, and the auxiliary term."""
        elements = batch.encoder.count * self.wide.model_widths
        values = torch.stack([self.objective.value(self._sums(total), elements) for total in terms])
        return torch.stack([values[:-1].mean(0), values[-1]])
