"""The family's SAEs once they are trained: how they read one model alone, and several together."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from usae.sae.layers import Dictionary
from usae.sae.sparse import SparseCodes, sparse_decode
from usae.sae.universal import UniversalSAE


class SparcSAE(UniversalSAE):
    """Alone, a model chooses its own concepts. Together, the sum of the pre-codes chooses, the values stay own."""

    def together(self, pre: Mapping[str, Float[Tensor, "... c"]], target: str) -> SparseCodes:
        """Codes that reconstruct `target` from the pre-codes of some models: its own where it is among them, else
        the mean over those that are.
        """
        chosen = self.levels.top_k(torch.stack(list(pre.values())).sum(0)).indices
        wanted = [pre[target]] if target in pre else list(pre.values())
        values = torch.stack([own.gather(-1, chosen).relu() for own in wanted]).mean(0)
        return SparseCodes(chosen, values)


class CentredEncoder(nn.Module):
    """Linear map of tokens less their mean: standardised tokens [n, d] to a share of the pre-codes [n, c]."""

    centre: Tensor

    def __init__(self, width: int, concepts: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, concepts)
        self.register_buffer("centre", torch.zeros(width))

    def forward(self, tokens: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """Before ReLU and the choice of codes."""
        pre: Tensor = self.linear(tokens - self.centre)
        return pre

    @torch.no_grad()
    def affine(self, dtype: torch.dtype | None = None) -> tuple[Float[Tensor, "c d"], Float[Tensor, " c"]]:
        """As one map, weight and bias."""
        weight, bias, centre = (
            each.to(dtype or each.dtype) for each in (self.linear.weight, self.linear.bias, self.centre)
        )
        return weight, bias - weight @ centre


class FreeDictionary(Dictionary):
    """Concepts of any norm, and what is added to every reconstruction."""

    def __init__(self, width: int, concepts: int) -> None:
        super().__init__(width, concepts)
        self.offset = nn.Parameter(torch.zeros(width))


class Crosscoder(UniversalSAE):
    """One code for all models: the sum of their pre-codes. A model that is not read counts as its mean token.

    Codes are in the unit of what they add to a model: f times the mean over models of |D_i[k]| over the gain.
    """

    def encode(self, tokens: Mapping[str, Float[Tensor, "... _"]]) -> dict[str, SparseCodes]:
        """One code of the models given together; with one model alone, from that one."""
        pre = {model: self.pre_codes(model, raw) for model, raw in tokens.items()}
        return dict.fromkeys(tokens, self.levels.top_k(self.sum(pre)))

    def together(self, pre: Mapping[str, Float[Tensor, "... c"]], target: str) -> SparseCodes:  # noqa: ARG002
        """The code that the pre-codes of some models give, whatever the target."""
        return self.levels.top_k(self.sum(pre))

    def sum(self, pre: Mapping[str, Float[Tensor, "... c"]]) -> Float[Tensor, "... c"]:
        """Pre-codes of some models together, in the unit of the codes."""
        absent = [self.at_mean(model) for model in self.models if model not in pre]
        return torch.stack(list(pre.values())).sum(0).add(sum(absent, torch.zeros(()))) * self.scale()

    def decode(self, model: str, codes: SparseCodes) -> Float[Tensor, "... d"]:
        """See `Estimator`."""
        return sparse_decode(codes, self.rows(model) / self.scale()[:, None]) + self.offset(model)

    def rows(self, model: str) -> Float[Tensor, "c d"]:
        """What a latent of 1 adds to a model."""
        return self.part(model).gain * self.dictionary(model)

    def scale(self) -> Float[Tensor, " c"]:
        """What a code is measured in: 1, since concepts have unit norm."""
        return self.part(self.models[0]).dictionary.weight.new_ones(self.concepts)

    def at_mean(self, model: str) -> Float[Tensor, " c"]:
        """A model's part of the pre-codes at its mean token."""
        shift: Tensor = self.part(model).encoder.norm.bias
        return shift

    def offset(self, model: str) -> Float[Tensor, " d"]:
        """What is added to every reconstruction of a model."""
        return torch.zeros_like(self.part(model).mean)


class FreeCrosscoder(Crosscoder):
    """A crosscoder whose concepts have norms of their own in every model, and an offset besides."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        for model, width in self.widths.items():
            part: Any = self.part(model)
            part.encoder = CentredEncoder(width, self.concepts)
            part.dictionary = FreeDictionary(width, self.concepts)

    def rows(self, model: str) -> Float[Tensor, "c d"]:
        """See `Crosscoder`."""
        return self.part(model).dictionary.weight

    def norms(self) -> Float[Tensor, "m c"]:
        """|D_i[k]| over the model's gain: equal where a latent adds equally much to every model."""
        return torch.stack([self.rows(model).norm(dim=1) / self.part(model).gain for model in self.models])

    def scale(self) -> Float[Tensor, " c"]:
        """See `Crosscoder`: the mean norm; of latents that no model writes, 1."""
        mean = self.norms().mean(0)
        return torch.where(mean > 0, mean, 1.0)

    def at_mean(self, model: str) -> Float[Tensor, " c"]:
        """See `Crosscoder`."""
        bias: Tensor = self.part(model).encoder.linear.bias
        return bias

    def offset(self, model: str) -> Float[Tensor, " d"]:
        """See `Crosscoder`."""
        own: Any = self.part(model).dictionary
        shift: Tensor = own.offset
        return shift
