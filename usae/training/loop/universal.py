"""The universal SAE in training: a step encodes tokens of its sources and reconstructs every model from each.

The source is one model that is drawn (paper sec. 3), or all of them; what happens to the weights is in
`optimisation.py`.
"""

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from usae.common.seeds import generator
from usae.sae.sparse import SparseCodes
from usae.sae.universal import UniversalSAE
from usae.training.loop.method import ALL_MODELS, Start, Update
from usae.training.loop.optimisation import Optimisation
from usae.training.start import archetypes, calibrate, sae_and_starts
from usae.training.step.choice import products_for
from usae.training.step.fast import FastStep

SMALLEST_SHARE = 8  # rows of a batch that a model is encoded on: BatchNorm needs several


class UniversalMethod:
    """See `Method`."""

    def __init__(self, optimisation: Optimisation, given: Start) -> None:
        self.optimisation, self.seed, self.data = optimisation, given.variant.seed, given.data
        self.sources = given.params.sources

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
        """Encode the step's sources and step AdamW."""
        rows = [self.sae.part(model).standardise(tokens[model]) for model in self.sae.models]
        sources = self._shares(step, rows)
        stepped = self.optimisation.step(sources)
        loss, r2 = stepped.loss, None
        if scored:
            r2 = torch.stack([self._r2(each, own, loss.codes[each]) for each, own in sources.items()]).mean(0)
        about = next(iter(sources)) if len(sources) == 1 else ALL_MODELS
        return Update(about, stepped.rate, loss.total, loss.reconstruction.sum(), stepped.gradient_norm, r2)

    def state(self) -> dict[str, Any]:
        """See `Method`."""
        return self.optimisation.state()

    def restore(self, state: dict[str, Any]) -> None:
        """See `Method`."""
        self.optimisation.restore(state)

    def _shares(self, step: int, rows: Sequence[Tensor]) -> dict[str, Sequence[Tensor]]:
        """The rows of each model that is encoded in this step, in the order of which a step is a function.

        `one`: all, of one model. `all`: all, of every model. `each`: an own part of them for every model; too few
        rows to share out are one model's.
        """
        models, number = self.sae.models, len(self.sae.models)
        if self.sources == "one" or (self.sources == "each" and len(rows[0]) < SMALLEST_SHARE * number):
            return {draw_source(self.seed, step, models): rows}
        if self.sources == "all":
            return dict.fromkeys(models, rows)
        turns = generator(self.seed, "shares of a batch", step).permutation(number)
        return {model: [part[turn::number] for part in rows] for model, turn in zip(models, turns, strict=True)}

    def _r2(self, source: str, rows: Sequence[Tensor], codes: SparseCodes) -> Float[Tensor, "2"]:
        """Channel R2 of the step's own reconstructions: of the source, and the mean over the other models."""
        assert isinstance(self.optimisation.compute, FastStep)
        decoded = self.optimisation.compute.reconstruct(codes)
        r2 = torch.stack(
            [_channel_r2(own, decoded[model]) for model, own in zip(self.sae.models, rows, strict=True)]
        )
        own = r2[self.sae.models.index(source)]
        return torch.stack([own, (r2.sum() - own) / (len(r2) - 1)])


def start(given: Start) -> UniversalMethod:
    """A universal SAE before its first step."""
    variant, params = given.variant, given.params
    sae, starts = sae_and_starts(given.manifests, given.data, params, variant, given.kept, given.device)
    sae.to(given.device)
    points = archetypes(sae, given.data, starts, variant) if params.dictionary_rows == "archetypes" else None
    products = products_for(sae, partial(_first_batch, sae, given), given.kernels, params.precision)
    optimisation = Optimisation(sae, params, given.schedule, given.ranks, points, products=products)
    return UniversalMethod(optimisation, given)


def _first_batch(sae: UniversalSAE, given: Start) -> list[Float[Tensor, "n _"]]:
    """Standardised tokens of the first images, of each model."""
    raw = given.data.rows(np.arange(min(given.data.images, given.params.batch_images)))
    return [sae.part(model).standardise(raw[model].to(given.device)) for model in sae.models]


def draw_source(seed: int, step: int, models: tuple[str, ...]) -> str:
    """The model that is encoded in a step: uniform, and a function of the seed and the step alone."""
    return models[int(generator(seed, "source", step).integers(len(models)))]


def _channel_r2(target: Tensor, decoded: Tensor) -> Tensor:
    """Share of the sum of squares about the channels' means that is explained."""
    return 1 - (target - decoded).square().sum() / (target - target.mean(0)).square().sum()
