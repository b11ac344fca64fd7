"""What surrounds a step: optimisers, learning rates, clipping, and the state that survives an interruption.

One AdamW per model, as in the paper (sec. 3). With `update: source`, `schedule: per_model`, `aux: multi_topk` this
is the authors' recipe, in which a model's rate moves only when it is the source.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from usae.common.params import TrainParams
from usae.common.runtime.ranks import Ranks
from usae.sae.sparse import SparseCodes
from usae.sae.universal import UniversalSAE
from usae.training.loop.archetypes import Archetypes
from usae.training.loop.schedule import Schedule
from usae.training.step.fast import FastStep
from usae.training.step.products import SparseProducts
from usae.training.step.reference import StepLoss, StepRecipe


@dataclass(frozen=True)
class Stepped:
    """What one step did.

    gradient_norm: the first source's, before clipping; of its encoder alone where dictionaries are mixtures. rate:
    its learning rate.
    """

    loss: StepLoss
    gradient_norm: Tensor
    rate: float


class StepFunction(Protocol):
    """Loss and gradients of one batch: `FastStep`, or that of another method."""

    def __call__(
        self, sources: Mapping[str, Sequence[Tensor]], dead: Mapping[str, Tensor] | None = None
    ) -> StepLoss:
        """Of standardised rows by source; leaves gradients in `.grad` of everything that learns."""
        ...

    def invalidate(self, *models: str) -> None:
        """The weights of these models have changed."""
        ...


class Optimisation:
    """Steps a universal SAE. `silent`: per source, the steps since each concept last fired.

    points: each model's (p, d), where dictionaries are mixtures of them (see `Archetypes`); None: they are free.
    step: another method's; None: the universal SAE's own, by these `products`.
    """

    def __init__(
        self,
        sae: UniversalSAE,
        params: TrainParams,
        schedule: Schedule,
        ranks: Ranks | None = None,
        points: Mapping[str, Tensor] | None = None,
        step: StepFunction | None = None,
        products: SparseProducts | None = None,
    ) -> None:
        self.sae, self.params, self.schedule, self.ranks = sae.train(), params, schedule, ranks or Ranks()
        recipe = StepRecipe(
            params.loss, params.update, params.aux, params.aux_weight, params.aux_codes, params.precision
        )
        self.compute: StepFunction = step or FastStep(sae, recipe, ranks, products)
        self.steps = 0
        self.updates: Counter[tuple[str, str]] = Counter()  # of each group of parameters
        self.optimisers = {model: self._optimiser(model) for model in sae.models}
        self.archetypes = self._archetypes(points) if points else None
        device = next(sae.parameters()).device
        self.silent = {m: torch.zeros(sae.concepts, dtype=torch.int64, device=device) for m in sae.models}

    def step(self, sources: Mapping[str, Sequence[Float[Tensor, "n _"]]]) -> Stepped:
        """One update. sources: the models that are encoded, each with standardised rows of every model."""
        loss = self.compute(sources, self._dead(sources) if self.params.aux == "dead" else None)
        if self.archetypes:
            self.archetypes.backward()
            self._set_rates("archetypes", self.archetypes.optimiser)
            self.archetypes.step(self.params.clip_norm)
        norms = {model: self._clip(model) for model in self._learners(sources)}
        for model in norms:
            self._update(model)
        for source in sources if self.params.aux == "dead" else ():
            self._count_silence(source, loss.codes[source])
        self.steps += 1
        first = next(iter(sources))
        return Stepped(loss, norms[first], self.optimisers[first].param_groups[0]["lr"])

    def state(self) -> dict[str, Any]:
        """Everything that the next steps depend on."""
        return {
            "sae": self.sae.state_dict(),
            "optimisers": {model: optimiser.state_dict() for model, optimiser in self.optimisers.items()},
            "steps": self.steps,
            "updates": [[*key, count] for key, count in self.updates.items()],
            "silent": self.silent,
            "archetypes": self.archetypes.state() if self.archetypes else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, to the bit."""
        self.sae.load_state_dict(state["sae"])
        self.compute.invalidate(*self.sae.models)
        for model, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][model])
        self.steps = state["steps"]
        self.updates = Counter({(model, group): count for model, group, count in state["updates"]})
        for model, silent in self.silent.items():
            silent.copy_(state["silent"][model])
        if self.archetypes:
            self.archetypes.restore(state["archetypes"])

    def _dead(self, sources: Iterable[str]) -> dict[str, Tensor]:
        return {source: self.silent[source] > self.params.dead_after for source in sources}

    def _learners(self, sources: Iterable[str]) -> list[str]:
        return list(sources) if self.params.update == "source" else list(self.sae.models)

    def _clip(self, model: str) -> Tensor:
        parameters = [p for p in self.sae.part(model).parameters() if p.grad is not None]
        return torch.nn.utils.clip_grad_norm_(parameters, self.params.clip_norm)

    def _update(self, model: str) -> None:
        optimiser, coarse = self.optimisers[model], self._coarse_encoder(model)
        before = [rows.clone() for rows in coarse]
        self._set_rates(model, optimiser)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        for rows, old in zip(coarse, before, strict=True):
            rows.copy_(old.lerp_(rows, self.params.coarse_rate))
        self.compute.invalidate(model)

    def _set_rates(self, owner: str, optimiser: torch.optim.Optimizer) -> None:
        """Of each group that has gradients, whose update is counted."""
        for group in optimiser.param_groups:
            if any(parameter.grad is not None for parameter in group["params"]):
                group["lr"] = self._rate((owner, group["name"]))
                self.updates[(owner, group["name"])] += 1

    def _coarse_encoder(self, model: str) -> list[Tensor]:
        """The encoder's weights for all levels but the last, where these have a rate of their own."""
        concepts = self.sae.levels.concepts[-1].start
        if not concepts or self.params.coarse_rate == 1:
            return []
        return [parameter.detach()[:concepts] for parameter in self.sae.part(model).encoder.parameters()]

    def _rate(self, key: tuple[str, str]) -> float:
        """Per model: a group's own updates count, and its first one is at full rate (the authors' code)."""
        if self.params.schedule == "global":
            return self.schedule.rate(self.steps)
        return self.schedule.peak if self.updates[key] == 0 else self.schedule.rate(self.updates[key])

    def _count_silence(self, source: str, codes: SparseCodes) -> None:
        fired = torch.zeros_like(self.silent[source])
        fired.index_add_(0, codes.indices.flatten(), (codes.values > 0).flatten().long())
        self.silent[source].add_(1).masked_fill_(self.ranks.sum(fired) > 0, 0)

    def _archetypes(self, points: Mapping[str, Tensor]) -> Archetypes:
        dictionaries = {model: self.sae.part(model).dictionary.weight for model in self.sae.models}
        return Archetypes(dictionaries, points, self.schedule.peak, self.params.weight_decay)

    def _optimiser(self, model: str) -> torch.optim.AdamW:
        part = self.sae.part(model)
        groups = [
            {"params": list(part.encoder.parameters()), "name": "encoder"},
            {"params": list(part.dictionary.parameters()), "name": "dictionary"},
        ]
        return torch.optim.AdamW(groups, lr=self.schedule.peak, weight_decay=self.params.weight_decay, fused=True)
