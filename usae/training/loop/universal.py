"""The universal SAE in training: a step draws one source model, encodes its tokens and reconstructs every model.

Paper sec. 3; what happens to the weights is in `optimisation.py`.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from usae.common.seeds import generator
from usae.sae.universal import UniversalSAE
from usae.training.loop.initialisation import calibrate, new_sae
from usae.training.loop.method import Start, Update
from usae.training.loop.optimisation import Optimisation


class UniversalMethod:
    """See `Method`."""

    def __init__(self, optimisation: Optimisation, given: Start) -> None:
        self.optimisation, self.seed, self.data = optimisation, given.variant.seed, given.data

    @property
    def sae(self) -> UniversalSAE:
        """The SAE, in training."""
        return self.optimisation.sae

    def start(self) -> UniversalSAE:
        """See `Method`."""
        start = copy.deepcopy(self.sae)
        calibrate(start, self.data)
        return start.eval()

    def finished(self) -> UniversalSAE:
        """See `Method`."""
        return self.sae.eval()

    def step(self, tokens: Mapping[str, Float[Tensor, "n _"]], step: int, scored: bool) -> Update:
        """Encode the model that `draw_source` names and step AdamW."""
        source = draw_source(self.seed, step, self.sae.models)
        rows = {model: self.sae.part(model).standardise(tokens[model]) for model in self.sae.models}
        update = self.optimisation.step(source, list(rows.values()))
        r2 = self._r2(source, rows, update.loss.codes) if scored else None
        loss = update.loss
        return Update(source, update.rate, loss.total, loss.reconstruction.sum(), update.gradient_norm, r2)

    def state(self) -> dict[str, Any]:
        """See `Method`."""
        return self.optimisation.state()

    def restore(self, state: dict[str, Any]) -> None:
        """See `Method`."""
        self.optimisation.restore(state)

    def _r2(self, source: str, rows: Mapping[str, Tensor], codes: Any) -> Float[Tensor, "2"]:
        """Channel R2 of the step's own reconstructions: of the source, and the mean over the other models."""
        decoded = self.optimisation.fast_step.reconstruct(codes)
        r2 = torch.stack([_channel_r2(rows[model], decoded[model]) for model in rows])
        own = r2[self.sae.models.index(source)]
        return torch.stack([own, (r2.sum() - own) / (len(r2) - 1)])


def start(given: Start) -> UniversalMethod:
    """A universal SAE before its first step."""
    variant, params = given.variant, given.params
    sae = new_sae(given.manifests, given.data, params, variant)
    return UniversalMethod(Optimisation(sae.to(given.device), params, given.schedule, given.ranks), given)


def draw_source(seed: int, step: int, models: tuple[str, ...]) -> str:
    """The model that is encoded in a step: uniform, and a function of the seed and the step alone."""
    return models[int(generator(seed, "source", step).integers(len(models)))]


def _channel_r2(target: Tensor, decoded: Tensor) -> Tensor:
    """Share of the sum of squares about the channels' means that is explained."""
    return 1 - (target - decoded).square().sum() / (target - target.mean(0)).square().sum()
