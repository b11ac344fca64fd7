"""Concepts as the same mixtures in every model: exact on small cases, and through whole runs."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from usae.common.variant import Variant
from usae.sae.universal import UniversalSAE
from usae.training.loop.archetypes import RADIUS, Archetypes, into_ball, onto_simplex
from usae.training.loop.loop import RunOptions, train
from usae.training.loop.optimisation import Optimisation
from usae.training.loop.schedule import Schedule
from usae.training.start import archetypes, sae_and_starts
from usae.training.step.fast import FastStep
from usae.training.step.reference import StepRecipe, reference_step

ON = {"dictionary_rows": "archetypes", "update": "all"}
SCHEDULE = Schedule(3e-3, 1e-6, 2, 10)
WIDTHS = {"a": 12, "b": 7, "c": 9}
CONCEPTS, POINTS = 20, 40


class Mixture(nn.Module):
    """A dictionary that is made of W, C and L whenever it is asked for: what `Archetypes` is measured by."""

    def __init__(self, mixture, points, offsets):
        super().__init__()
        self.mixture, self.points, self.offsets = mixture, points, offsets

    def unit(self):
        rows = self.mixture @ self.points + self.offsets
        return rows / (rows.norm(dim=1, keepdim=True) + 1e-8)


def dictionaries(sae):
    return {model: sae.part(model).dictionary.weight for model in sae.models}


def in_the_midst(sae, seed=0):
    """Archetypes as after some steps: every entry of W above 0, rows of L inside their balls."""
    random = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    points = {model: draw(POINTS, width) for model, width in sae.widths.items()}
    mixed = Archetypes(dictionaries(sae), points, 1e-3, 1e-5)
    offsets = {model: into_ball(draw(sae.concepts, width), RADIUS) for model, width in sae.widths.items()}
    state = mixed.state() | {"mixture": onto_simplex(draw(sae.concepts, POINTS).exp()), "offsets": offsets}
    mixed.restore(state)
    return mixed


def small_sae(coarse=()):
    torch.manual_seed(0)
    sae = UniversalSAE(WIDTHS, CONCEPTS, 5, coarse=coarse).double().train()
    for number, model in enumerate(WIDTHS):
        sae.part(model).gain.fill_(0.5 + number)
    return sae, [torch.randn(60, width, dtype=torch.float64) for width in WIDTHS.values()]


def started(world, params):
    (manifests, data), variant = world, Variant(4, 0)
    sae, starts = sae_and_starts(manifests, data, params, variant)
    points = archetypes(sae, data, starts, variant) if params.dictionary_rows == "archetypes" else None
    rows = [sae.standardise(model, raw) for model, raw in data.rows(np.arange(8)).items()]
    return sae, Optimisation(sae, params, SCHEDULE, points=points), rows


def test_rows_are_projected_as_by_hand():
    mixture = onto_simplex(torch.tensor([[2.0, -1.0], [0.0, 0.0]]))
    offsets = into_ball(torch.tensor([[0.3, 0.4], [0.0, 0.0]]), 0.25)
    expected = torch.tensor([[1.15, 0.2], [0.0, 0.0]])
    torch.testing.assert_close(mixture @ torch.eye(2) + offsets, expected, atol=1e-7, rtol=0)


def test_rows_that_are_inside_stay_as_they_are():
    mixture, offsets = torch.tensor([[0.25, 0.75], [0.0, 1.0]]), torch.tensor([[0.03, 0.04]])
    assert torch.equal(onto_simplex(mixture.clone()), mixture)
    assert torch.equal(into_ball(offsets.clone(), 0.25), offsets)


def test_fewer_points_than_concepts_are_refused():
    with pytest.raises(ValueError, match="2 points leave 1 of 3 concepts without a start"):
        Archetypes({"a": nn.Parameter(torch.zeros(3, 4))}, {"a": torch.ones(2, 4)}, 1e-3, 0.0)


@pytest.mark.parametrize("loss", ["l1", "l2", "frobenius"])
@pytest.mark.parametrize(("coarse", "aux"), [((), "multi_topk"), ((8,), "none")])
def test_gradients_are_those_of_dictionaries_in_the_graph(loss, coarse, aux):
    recipe = StepRecipe(loss, "all", aux)
    sae, rows = small_sae(coarse)
    mixed = in_the_midst(sae)
    literal = copy.deepcopy(sae)
    mixture = mixed.mixture.detach().clone().requires_grad_()
    offsets = {model: own.detach().clone().requires_grad_() for model, own in mixed.offsets.items()}
    for model in WIDTHS:
        literal.part(model).dictionary = Mixture(mixture, mixed.points[model], offsets[model])
    sources = {"a": [part[::2] for part in rows], "c": [part[1::2] for part in rows]}
    expected = reference_step(literal, sources, recipe).total
    found = FastStep(sae, recipe)(sources).total
    mixed.backward()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(mixed.mixture.grad, mixture.grad, rtol=1e-10, atol=1e-12)
    for model, own in offsets.items():
        torch.testing.assert_close(mixed.offsets[model].grad, own.grad, rtol=1e-10, atol=1e-12)
        assert sae.part(model).dictionary.weight.grad is None


def test_the_order_of_the_points_changes_nothing():
    order = torch.randperm(POINTS, generator=torch.Generator().manual_seed(1))
    after = []
    for turned in (torch.arange(POINTS), order):
        sae, rows = small_sae()
        mixed = in_the_midst(sae)
        points = {model: own[turned] for model, own in mixed.points.items()}
        mixed.restore(mixed.state() | {"mixture": mixed.mixture.detach()[:, turned], "points": points})
        step = FastStep(sae, StepRecipe("l2", "all", "none"))
        for _ in range(3):
            loss = step({"b": rows}).total
            mixed.backward()
            mixed.step(1.0)
            step.wide.invalidate(*WIDTHS)
        after.append((loss, dictionaries(sae)))
    torch.testing.assert_close(*after, rtol=1e-9, atol=1e-9)


def test_a_step_ends_on_the_simplex_and_in_the_balls():
    sae, rows = small_sae()
    mixed = in_the_midst(sae)
    assert [group["weight_decay"] for group in mixed.optimiser.param_groups] == [0, *[1e-5] * len(WIDTHS)]
    state = copy.deepcopy(mixed.state())
    for own in state["offsets"].values():
        own.mul_(3)
    mixed.restore(state)
    FastStep(sae, StepRecipe("l2", "all", "none"))({"a": rows})
    mixed.backward()
    mixed.step(1.0)
    for own in mixed.offsets.values():
        assert own.norm(dim=1).max().item() == pytest.approx(RADIUS)
    torch.testing.assert_close(mixed.mixture.sum(1), torch.ones_like(mixed.mixture[:, 0]))
    assert (mixed.mixture >= 0).all()


def test_a_concept_without_weights_still_gets_a_gradient():
    sae, rows = small_sae()
    mixed = in_the_midst(sae)
    state = copy.deepcopy(mixed.state())
    state["mixture"][3] = -1.0
    onto_simplex(state["mixture"])
    for own in state["offsets"].values():
        own[3] = 0.0
    mixed.restore(state)
    assert all((weight[3] == 0).all() for weight in dictionaries(sae).values())
    with torch.no_grad():
        sae.part("a").encoder.norm.bias[3] = 5.0  # it fires
    FastStep(sae, StepRecipe("l2", "all", "none"))({"a": rows})
    mixed.backward()
    assert mixed.mixture.grad.isfinite().all()
    assert mixed.mixture.grad[3].any()
    mixed.step(1.0)
    assert all(weight[3].any() and weight.isfinite().all() for weight in dictionaries(sae).values())


@pytest.mark.parametrize("changes", [{}, {"init": "clusters"}, {"init": "clusters", "levels": (8,)}])
def test_the_first_step_is_that_of_free_rows(world, recipe, changes):
    params = recipe.model_copy(update={"aux": "none", **changes})
    free, engine, rows = started(world, params)
    mixed, other, _ = started(world, params.model_copy(update=ON))
    for model in free.models:
        torch.testing.assert_close(mixed.dictionary(model), free.dictionary(model), atol=1e-6, rtol=0)
        for name, value in free.part(model).encoder.state_dict().items():
            assert torch.equal(value, mixed.part(model).encoder.state_dict()[name])
    one, two = engine.step({"a": rows}), other.step({"a": rows})
    torch.testing.assert_close(one.loss.total, two.loss.total, atol=1e-6, rtol=1e-6)
    assert torch.equal(one.loss.codes["a"].values, two.loss.codes["a"].values)


@pytest.mark.parametrize("changes", [{"sources": "each"}, {"init": "clusters", "levels": (8,)}, {"aux": "dead"}])
def test_after_training_every_model_has_the_same_mixture_of_its_points(world, recipe, changes):
    sae, engine, rows = started(world, recipe.model_copy(update={"aux": "none", **ON, **changes}))
    before = {model: weight.detach().clone() for model, weight in dictionaries(sae).items()}
    for source in "abaab":
        engine.step({source: rows})
    mixture, points = engine.archetypes.mixture.detach(), engine.archetypes.points
    assert (mixture >= 0).all()
    torch.testing.assert_close(mixture.sum(1), torch.ones(24))
    assert (mixture > 0).sum() > 24  # of others than a concept's own start
    for model, weight in dictionaries(sae).items():
        offsets = weight.detach() - mixture @ points[model]
        assert offsets.norm(dim=1).max() <= RADIUS + 1e-5
        assert (weight.detach() - before[model]).norm(dim=1).max() > 0.01


def test_a_restored_engine_goes_on_to_the_bit(world, recipe):
    params = recipe.model_copy(update=ON)
    sae, engine, rows = started(world, params)
    for source in "abaab":
        engine.step({source: rows})
    other_sae, other, _ = started(world, params)
    other.restore(copy.deepcopy(engine.state()))
    for source in "bab":
        assert torch.equal(engine.step({source: rows}).loss.total, other.step({source: rows}).loss.total)
    assert torch.equal(engine.archetypes.mixture, other.archetypes.mixture)
    for name, value in sae.state_dict().items():
        assert torch.equal(value, other_sae.state_dict()[name]), name


@pytest.mark.parametrize("schedule", ["global", "per_model"])
def test_they_learn_at_the_rate_of_the_other_weights(world, recipe, schedule):
    _, engine, rows = started(world, recipe.model_copy(update={**ON, "schedule": schedule}))
    for _ in range(3):
        rate = engine.step({"a": rows}).rate
        assert {group["lr"] for group in engine.archetypes.optimiser.param_groups} == {rate}


def test_what_is_saved_is_a_universal_sae_like_any_other(world, recipe, tmp_path):
    manifests, data = world
    params = recipe.model_copy(update={**ON, "epochs": 2})
    variants = {
        "usae": Variant(4, 0),
        "shuffled": Variant(4, 0, "shuffled"),
        "independent-b": Variant(4, 1, models=("b",)),
    }
    results = train(variants, manifests, data, params, RunOptions(torch.device("cpu")), seed=0)
    for name, result in results.items():
        result.sae.save_pretrained(tmp_path / name)
        loaded = UniversalSAE.from_pretrained(tmp_path / name)
        for model in loaded.models:
            assert torch.equal(loaded.dictionary(model), result.sae.dictionary(model))
