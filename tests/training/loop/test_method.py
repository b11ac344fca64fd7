"""A method without a source trains side by side with the universal SAE, from the same batches and checkpoints."""

import copy
import sys
from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from usae.common.errors import UserError
from usae.common.variant import Variant
from usae.sae.estimator import Estimator
from usae.sae.universal import UniversalSAE
from usae.training.loop.checkpoints import Checkpoints
from usae.training.loop.loop import RunOptions, train
from usae.training.loop.method import ALL_MODELS, Start, Update
from usae.training.start import new_sae

OPTIONS = RunOptions(torch.device("cpu"))


class EveryModel:
    """Each model reconstructs itself in every step: plain gradient descent, no source."""

    def __init__(self, sae: UniversalSAE, rate: float) -> None:
        self.sae, self.rate = sae, rate

    def start(self) -> UniversalSAE:
        return copy.deepcopy(self.sae).eval()

    def finished(self) -> UniversalSAE:
        return self.sae.eval()

    def step(self, tokens: Mapping[str, Tensor], step: int, scored: bool) -> Update:
        codes = self.sae.encode(tokens)
        errors = [
            (self.sae.standardise(model, raw) - self.sae.decode(model, codes[model])).square().mean()
            for model, raw in tokens.items()
        ]
        loss = torch.stack(errors).sum()
        self.sae.zero_grad()
        loss.backward()
        parameters = [parameter for parameter in self.sae.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        with torch.no_grad():
            for parameter in parameters:
                parameter -= self.rate * parameter.grad
        r2 = torch.stack([1 - errors[0].detach(), loss.detach() * torch.nan]) if scored else None
        return Update(ALL_MODELS, self.rate, loss.detach(), loss.detach(), norm, r2)

    def state(self) -> dict:
        return {"sae": self.sae.state_dict()}

    def restore(self, state: dict) -> None:
        self.sae.load_state_dict(state["sae"])


@pytest.fixture
def every_model(monkeypatch):
    """As if usae/methods/every_model.py were there."""
    module = ModuleType("usae.methods.every_model")

    def start(given: Start) -> EveryModel:
        variant = given.variant
        sae = new_sae(given.manifests, given.data, given.params, variant)
        return EveryModel(sae.train(), 0.05)

    module.start = start
    monkeypatch.setitem(sys.modules, "usae.methods", ModuleType("usae.methods"))
    monkeypatch.setitem(sys.modules, "usae.methods.every_model", module)
    return Variant(4, 0, method="every_model")


def test_a_universal_sae_is_an_estimator(world, recipe):
    manifests, data = world
    assert isinstance(new_sae(manifests, data, recipe, Variant(4, 0)), Estimator)


def test_a_method_without_a_source_trains_beside_one_that_has_it(world, recipe, every_model):
    manifests, data = world
    universal = Variant(4, 0)
    both = train({"usae": universal, "every": every_model}, manifests, data, recipe, OPTIONS, seed=0)
    alone = train({"usae": universal}, manifests, data, recipe, OPTIONS, seed=0)["usae"]
    pd.testing.assert_frame_equal(both["usae"].log, alone.log)
    log = both["every"].log
    assert set(log["source"]) == {ALL_MODELS}
    assert log["step"].tolist() == alone.log["step"].tolist()
    assert log["loss"].iloc[-20:].mean() < 0.7 * log["loss"].iloc[:20].mean()
    assert isinstance(both["every"].sae, Estimator)


class Noisy(EveryModel):
    """A method that draws from torch's global generator, and can be stopped by an error."""

    stops_at: int | None = None

    def step(self, tokens: Mapping[str, Tensor], step: int, scored: bool) -> Update:
        if step == self.stops_at:
            raise RuntimeError("a power cut")
        noisy = {model: raw + 0.1 * torch.randn(raw.shape) for model, raw in tokens.items()}
        return super().step(noisy, step, scored)


def test_a_method_that_draws_from_the_global_generator_goes_on_to_the_bit(
    world, recipe, every_model, monkeypatch, tmp_path
):
    def start(given: Start) -> Noisy:
        sae = new_sae(given.manifests, given.data, given.params, Variant(4, 0))
        torch.manual_seed(0)
        return Noisy(sae.train(), 0.05)

    monkeypatch.setattr(sys.modules["usae.methods.every_model"], "start", start)
    checkpoints = Checkpoints(tmp_path / "checkpoints", {"test": 1}, minutes=0)

    def trained(options: RunOptions):
        return train({"every": every_model}, *world, recipe, options, seed=0, steps=9)["every"].log

    alone = trained(OPTIONS)
    monkeypatch.setattr(Noisy, "stops_at", 5)
    with pytest.raises(RuntimeError, match="a power cut"):
        trained(replace(OPTIONS, checkpoints=checkpoints))
    monkeypatch.setattr(Noisy, "stops_at", None)
    pd.testing.assert_frame_equal(trained(replace(OPTIONS, checkpoints=checkpoints)), alone)


def test_codes_of_a_model_come_from_that_model_alone(world, recipe):
    manifests, data = world
    sae = new_sae(manifests, data, recipe, Variant(4, 0)).eval()
    rows = data.rows(np.arange(3))
    together = sae.encode(rows)
    for model, raw in rows.items():
        assert torch.equal(together[model].indices, sae.encode({model: raw})[model].indices)


def test_an_unknown_method_is_named(world, recipe):
    manifests, data = world
    with pytest.raises(UserError, match="There is no method 'magic': usae/methods/magic.py does not exist"):
        train({"a": Variant(4, 0, method="magic")}, manifests, data, recipe, OPTIONS, seed=0)
