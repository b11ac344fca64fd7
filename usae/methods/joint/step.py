"""One step of the family, by autograd: loss and gradients, without dense codes."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from usae.common.seeds import generator
from usae.methods.joint.codes import TokenCodes
from usae.methods.joint.family import Family
from usae.methods.joint.penalty import Penalty
from usae.methods.joint.sae import Crosscoder, FreeCrosscoder
from usae.sae.top_k import largest
from usae.sae.universal import UniversalSAE
from usae.training.step.objectives import Loss, Objective
from usae.training.step.reference import StepLoss


class JointStep:
    """Callable like `FastStep`: leaves gradients in `.grad` of everything.

    number: of the step, which draws what is read. penalty: on codes, where nothing chooses among them. residuals:
    what the last one left, by source (one, where all models have one code).
    """

    def __init__(self, sae: UniversalSAE, family: Family, loss: Loss, seed: int) -> None:
        self.sae, self.family, self.objective, self.seed = sae, family, Objective(loss), seed
        self.number = 0
        self.penalty = Penalty(sae.k) if family.scope == "positive" else None
        self.residuals: tuple[Float[Tensor, "n wide"], ...] = ()
        shares = family.prefixes
        self.ends = [round(share * sae.concepts) for share in shares] if shares else list(sae.levels.ends)

    def __call__(
        self,
        sources: Mapping[str, Sequence[Float[Tensor, "n _"]]],
        dead: Mapping[str, Bool[Tensor, " c"]] | None = None,
    ) -> StepLoss:
        """Of standardised rows, the same for every source. There is no auxiliary term for `dead` concepts."""
        assert dead is None
        rows = next(iter(sources.values()))
        decoders = [self.decoder(model) for model in self.sae.models]
        wide, offset = torch.cat([each[0] for each in decoders], 1), torch.cat([each[1] for each in decoders])
        target = torch.cat(list(rows), 1) - offset  # (n, wide)
        codes = self.codes(rows)
        losses, self.residuals = zip(*(self._loss(parts, wide, target) for parts in codes), strict=True)
        by_target = (self.weights() * torch.stack(losses)).sum(0)  # (m,)
        total = by_target.sum()
        if self.penalty and isinstance(self.sae, FreeCrosscoder):
            total = total + self.penalty(codes[0], self.sae.norms(), total.detach())
        total.backward()
        return StepLoss(total.detach(), by_target.detach(), torch.zeros_like(by_target), {})

    def codes(self, rows: Sequence[Float[Tensor, "n _"]]) -> list[list[TokenCodes]]:
        """Of every source (one, where all models have one code), those that each prefix adds."""
        pre = self._kept(torch.stack([self._part(m, own) for m, own in zip(self.sae.models, rows, strict=True)]))
        total = pre.sum(0)
        sources = [total] if self.family.values == "sum" else list(pre)
        scores = [total if self.family.chosen_by == "sum" else own for own in sources]
        norms = self.sae.scale().detach() if isinstance(self.sae, Crosscoder) else 1.0
        return [self.chosen(score.detach() * norms, own) for score, own in zip(scores, sources, strict=True)]

    def chosen(self, score: Float[Tensor, "n c"], values: Float[Tensor, "n c"]) -> list[TokenCodes]:
        """The concepts with the largest scores, and ReLU of their values: of all concepts, prefix by prefix, or
        chosen level by level.
        """
        if self.family.prefixes:
            codes = self._largest(score, values, slice(0, self.sae.concepts), self.sae.k)
            return [codes.among(*edge) for edge in pairwise((0, *self.ends))]
        levels = zip(self.sae.levels.concepts, self.sae.levels.codes, strict=True)
        return [self._largest(score, values, own, codes.stop - codes.start) for own, codes in levels]

    def weights(self) -> Float[Tensor, "sources m"]:
        """Of the errors of each source and target."""
        models, device = len(self.sae.models), self.sae.device
        if self.family.values == "sum":
            return torch.ones(1, models, device=device)
        cross = models - 1 if self.family.cross is None else self.family.cross
        own = torch.eye(models, device=device)
        return own / models + (1 - own) * cross / (models * max(models - 1, 1))

    def decoder(self, model: str) -> tuple[Float[Tensor, "c d"], Float[Tensor, " d"]]:
        """Rows as they are decoded, and the offset."""
        if isinstance(self.sae, Crosscoder):
            return self.sae.rows(model), self.sae.offset(model)
        rows = self.sae.part(model).gain * self.sae.dictionary(model)
        return rows, rows.new_zeros(rows.shape[1])

    def errors(self) -> Float[Tensor, "sources m"]:
        """Mean squared error of the last step, by source and target."""
        widths = torch.tensor(list(self.sae.widths.values()), device=self.sae.device)
        return torch.stack([self._by_model(each.square().mean(0)) for each in self.residuals]) / widths

    def invalidate(self, *models: str) -> None:
        """Nothing is kept from step to step."""

    def _part(self, model: str, rows: Tensor) -> Float[Tensor, "n c"]:
        pre: Tensor = self.sae.part(model).encoder(rows)
        return pre

    def _kept(self, pre: Float[Tensor, "m n c"]) -> Float[Tensor, "m n c"]:
        """Pre-codes of the models that are read, row by row, in place of those of all."""
        models, tokens = pre.shape[:2]
        if self.family.kept == 1:
            return pre
        drawn = generator(self.seed, "models read in a step", self.number).random((models + 1, tokens))
        kept = torch.from_numpy(drawn[:models] < self.family.kept)
        always = torch.from_numpy((drawn[-1] * models).astype(int))  # one that is read where none would be
        kept[always, torch.arange(tokens)] |= ~kept.any(0)
        factor = models / kept.sum(0) * kept  # (m, n)
        return pre * factor.to(pre)[..., None]

    def _largest(self, score: Tensor, values: Tensor, own: slice, count: int) -> TokenCodes:
        """The largest scores of some concepts: `count` of each token, or as many in all."""
        part = score[:, own]
        tokens = torch.arange(len(part), device=part.device)
        if self.family.scope == "token":
            concepts = largest(part, count) + own.start  # (n, count)
            return TokenCodes(concepts.flatten(), values.gather(1, concepts).relu().flatten(), tokens * count)
        token, concept = ((part >= self._least(part, count)) & (part > 0)).nonzero(as_tuple=True)
        concept = concept + own.start
        return TokenCodes(concept, values[token, concept].relu(), torch.searchsorted(token, tokens))

    def _least(self, part: Tensor, count: int) -> Tensor | float:
        """The smallest score that is kept, `count` of a token on average; 0 where every positive one is."""
        if self.family.scope == "positive":
            return 0.0
        return part.flatten().kthvalue(part.numel() - count * len(part) + 1).values

    def _loss(
        self, parts: Sequence[TokenCodes], wide: Tensor, target: Tensor
    ) -> tuple[Float[Tensor, " m"], Tensor]:
        """(m,) of every model, mean over prefixes; and (n, wide) what all codes together leave."""
        residual, sums = target, []
        for codes in parts:
            residual = residual - codes.decoded(wide)
            sums.append(self.objective.terms(residual).sum(0))
        elements = [len(target) * width for width in self.sae.widths.values()]
        totals = torch.stack([self._by_model(each) for each in sums])  # (prefixes, m)
        values = [self.objective.value(of, number) for of, number in zip(totals.T, elements, strict=True)]
        return torch.stack(values).mean(1), residual.detach()

    def _by_model(self, columns: Float[Tensor, " wide"]) -> Float[Tensor, " m"]:
        return torch.stack([part.sum() for part in columns.split(list(self.sae.widths.values()))])
