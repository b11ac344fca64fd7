"""A method of the family in training: the run's start, optimisers and schedule, and the family's step."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from usae.common.errors import UserError
from usae.methods.joint.family import Family
from usae.methods.joint.sae import Crosscoder, FreeCrosscoder, SparcSAE
from usae.methods.joint.start import centred, scaled, sparse
from usae.methods.joint.step import JointStep
from usae.sae.universal import UniversalSAE
from usae.training.loop.method import ALL_MODELS, Start, Update
from usae.training.loop.optimisation import Optimisation
from usae.training.start import calibrate, sae_and_starts


class JointMethod:
    """See `Method`. Every step encodes all models; there is no auxiliary term."""

    def __init__(self, sae: UniversalSAE, family: Family, given: Start) -> None:
        params = given.params.model_copy(update={"aux": "none"})
        self.sae, self.given = sae.train(), given
        self.compute = JointStep(sae, family, params.loss, given.variant.seed)
        self.forbidden = _forbidden(sae, family.dedicated)
        self.optimisation = Optimisation(sae, params, given.schedule, step=self.compute)

    def start(self) -> UniversalSAE:
        """See `Method`."""
        start = copy.deepcopy(self.sae)
        if not isinstance(start, FreeCrosscoder):
            calibrate(start, self.given.data)
        return start.eval()

    def finished(self) -> UniversalSAE:
        """See `Method`."""
        return self.sae.eval()

    def step(self, tokens: Mapping[str, Float[Tensor, "n _"]], step: int, scored: bool) -> Update:
        """Encode all models and step AdamW."""
        self.compute.number = step
        rows = [self.sae.part(model).standardise(tokens[model]) for model in self.sae.models]
        stepped = self.optimisation.step(dict.fromkeys(self.sae.models, rows))
        self._clear()
        loss = stepped.loss
        r2 = self._r2(rows) if scored else None
        return Update(ALL_MODELS, stepped.rate, loss.total, loss.reconstruction.sum(), stepped.gradient_norm, r2)

    def state(self) -> dict[str, Any]:
        """See `Method`."""
        penalty = self.compute.penalty
        return self.optimisation.state() | ({"penalty": penalty.strength} if penalty else {})

    def restore(self, state: dict[str, Any]) -> None:
        """See `Method`."""
        self.optimisation.restore(state)
        if self.compute.penalty:
            self.compute.penalty.strength = state["penalty"]

    @torch.no_grad()
    def _clear(self) -> None:
        """Set what a dedicated concept may not have of other models to 0."""
        for weight, concepts in self.forbidden:
            weight[concepts] = 0

    def _r2(self, rows: list[Tensor]) -> Float[Tensor, "2"]:
        """Channel R2 of the step's own reconstructions, of a model from itself and from others; one code for all
        has one number, from all of them.
        """
        variance = torch.stack([(own - own.mean(0)).square().mean() for own in rows])  # (m,)
        r2 = 1 - self.compute.errors() / variance  # (sources, m)
        if len(r2) < len(rows):
            return torch.stack([r2.mean(), r2.new_tensor(math.nan)])
        own = r2.diagonal().sum()
        return torch.stack([own / len(rows), (r2.sum() - own) / max(r2.numel() - len(rows), 1)])


def begin(given: Start, family: Family) -> JointMethod:
    """A method of the family before its first step: it starts where the universal SAE does.

    Raises:
        UserError: several processes train together.
    """
    if given.ranks.size > 1:
        raise UserError(
            f"`{given.variant.method}` trains in one process, found {given.ranks.size}; "
            "set `runtime.processes` to 1."
        )
    first, _ = sae_and_starts(given.manifests, given.data, given.params, given.variant, given.kept, given.device)
    about = first.config | {"method": given.variant.method}
    kind = FreeCrosscoder if family.free else Crosscoder if family.values == "sum" else SparcSAE
    sae = kind(first.widths, first.concepts, first.k, about, first.levels.ends[:-1])
    if isinstance(sae, FreeCrosscoder):
        centred(sae, first, given)
    else:
        sae.load_state_dict(first.state_dict())
    for weight, concepts in _forbidden(sae, family.dedicated):
        nn.init.zeros_(weight[concepts])
    if isinstance(sae, Crosscoder) and family.scope == "positive":
        sparse(sae, given)
    if isinstance(sae, Crosscoder):
        scaled(sae, given)
    return JointMethod(sae.to(given.device), family, given)


def _forbidden(sae: UniversalSAE, share: float) -> list[tuple[Tensor, slice]]:
    """Rows of encoders and decoders that stay 0: those of concepts that are dedicated to another model.

    The last concepts are dedicated, as many to each model, in the order of the models.
    """
    size, models = round(share * sae.concepts), len(sae.models)
    if not size:
        return []
    found = []
    for place, owner in enumerate(sae.models):
        first = sae.concepts - (models - place) * size
        for model in sae.models:
            if model != owner:
                part: Any = sae.part(model)
                rows = slice(first, first + size)
                found += [(part.encoder.linear.weight.data, rows), (part.dictionary.weight.data, rows)]
                found += [(part.encoder.linear.bias.data, rows)]
    return found
