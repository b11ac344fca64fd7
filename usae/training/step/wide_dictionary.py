"""The dictionaries of all models side by side, as they are decoded: [c, d_1 + ... + d_M], for the fast step.

A model's concepts have the norm of its gain; they are normalised anew only after `invalidate` names it.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from usae.sae.layers import NORM_EPSILON
from usae.sae.universal import UniversalSAE
from usae.training.step.matmul import packed

SMALLEST_NORM = 1e-30


class WideDictionary:
    """Normalised concepts of every model; `rows` [c, wide] holds them after `refresh`."""

    def __init__(self, sae: UniversalSAE) -> None:
        self.sae = sae
        self.widths = [sae.widths[model] for model in sae.models]
        edges = pairwise(accumulate(self.widths, initial=0))
        self._columns = {model: slice(*edge) for model, edge in zip(sae.models, edges, strict=True)}
        weight = self._weight(sae.models[0])
        self.rows = weight.new_empty(sae.concepts, sum(self.widths))
        self.model_widths = weight.new_tensor(self.widths)  # (models,)
        self.column_widths = torch.cat([width.expand(int(width)) for width in self.model_widths])  # (wide,)
        self._norms = {model: weight.new_empty(sae.concepts, 1) for model in sae.models}
        self._gains = {model: float(sae.part(model).gain) for model in sae.models}
        self._stale = set(sae.models)
        self._copies: dict[torch.dtype, Tensor] = {}
        self._operands: dict[torch.dtype, tuple[Tensor, Tensor]] = {}

    def refresh(self) -> Float[Tensor, "c wide"]:
        """Normalise what has changed since the last call; returns `rows`."""
        for model in self._stale:
            weight = self._weight(model)
            self._norms[model] = weight.norm(dim=1, keepdim=True)
            scale = self._gains[model] / (self._norms[model] + NORM_EPSILON)  # (c, 1)
            torch.mul(weight, scale, out=self.rows[:, self._columns[model]])
        if self._stale:
            self._copies.clear()
            self._operands.clear()
        self._stale.clear()
        return self.rows

    def rounded(self, dtype: torch.dtype) -> Float[Tensor, "c wide"]:
        """`rows` in another precision, or themselves."""
        if dtype not in self._copies:
            self._copies[dtype] = self.rows.to(dtype)
        return self._copies[dtype]

    def operands(self, dtype: torch.dtype, rows: int) -> tuple[Float[Tensor, "c wide"], Float[Tensor, "wide c"]]:
        """`rows` and their transpose as weights of `matmul.linear`, laid out once for blocks of rows."""
        if dtype not in self._operands:
            weight = self.rounded(dtype)
            self._operands[dtype] = packed(weight, rows), packed(weight.T, rows)
        return self._operands[dtype]

    def invalidate(self, *models: str) -> None:
        """The weights of these models have changed."""
        self._stale.update(models)

    def columns(self, models: Sequence[str]) -> slice:
        """The columns of neighbouring models."""
        return slice(self._columns[models[0]].start, self._columns[models[-1]].stop)

    def backward(self, gradient: Float[Tensor, "c columns"], models: Sequence[str]) -> None:
        """Set `.grad` of the models' dictionaries from the gradient of their normalised concepts."""
        for model, part in zip(models, gradient.split([self.sae.widths[m] for m in models], dim=1), strict=True):
            rows, norm, gain = self.rows[:, self._columns[model]], self._norms[model], self._gains[model]
            length = norm.clamp_min(SMALLEST_NORM)  # a row of zeros has no direction, and still a gradient
            along = (part * rows).sum(1, keepdim=True) * ((norm + NORM_EPSILON) / (length * gain))  # (c, 1)
            self._weight(model).grad = torch.addcmul(gain * part, along, rows, value=-1).div_(norm + NORM_EPSILON)

    def _weight(self, model: str) -> Tensor:
        return self.sae.part(model).dictionary.weight
