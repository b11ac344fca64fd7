import copy

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from usae.common.variant import Variant
from usae.training.loop.optimisation import Optimisation
from usae.training.loop.schedule import Schedule
from usae.training.start import new_sae

SCHEDULE = Schedule(3e-3, 1e-6, 2, 10)


def started(world, params, k=4, schedule=SCHEDULE):
    manifests, data = world
    sae = new_sae(manifests, data, params, Variant(k, 0))
    rows = [sae.standardise(model, raw) for model, raw in data.rows(np.arange(8)).items()]
    return sae, Optimisation(sae, params, schedule), rows


def test_the_schedule_warms_up_peaks_and_ends():
    schedule = Schedule(peak=3e-4, final=1e-6, warmup=10, steps=100)
    assert schedule.rate(0) == pytest.approx(1e-6)
    assert schedule.rate(9) == pytest.approx(3e-4)
    assert schedule.rate(10) == pytest.approx(3e-4)
    assert schedule.rate(55) == pytest.approx((3e-4 + 1e-6) / 2)
    assert schedule.rate(99) < 2e-6


def test_the_authors_schedule_stops_at_a_third_of_the_way():
    """Each scheduler moves only when its model is drawn: with three models the last rate is 2.34e-4."""
    steps = 1_201_094
    assert Schedule(3e-4, 1e-6, 40_036, steps).rate(steps // 3) == pytest.approx(2.344e-4, rel=1e-3)


@pytest.mark.parametrize("update", ["source", "all"])
def test_who_steps(world, recipe, update):
    sae, engine, rows = started(world, recipe.model_copy(update={"update": update}))
    before = {name: value.clone() for name, value in sae.state_dict().items()}
    engine.step({"a": rows})
    moved = {name for name, value in sae.named_parameters() if not torch.equal(value, before[name])}
    assert "parts.a.encoder.linear.weight" in moved
    assert "parts.a.dictionary.weight" in moved
    assert "parts.b.encoder.linear.weight" not in moved
    assert ("parts.b.dictionary.weight" in moved) == (update == "all")


@pytest.mark.parametrize("kind", ["per_model", "global"])
def test_rates_follow_the_named_schedule(world, recipe, kind):
    schedule = Schedule(3e-3, 1e-6, 4, 20)
    params = recipe.model_copy(update={"schedule": kind, "update": "source"})
    _, engine, rows = started(world, params, schedule=schedule)
    rates = [engine.step({source: rows}).rate for source in ("a", "b", "a")]
    if kind == "per_model":  # each model's own updates count, and its first one is at full rate
        assert rates == [3e-3, 3e-3, schedule.rate(1)]
    else:
        assert rates == [schedule.rate(0), schedule.rate(1), schedule.rate(2)]


def test_clipping_bounds_the_gradient_of_each_sae(world, recipe):
    sae, engine, rows = started(world, recipe.model_copy(update={"clip_norm": 1e-3}))
    seen = {}
    engine._update = lambda model: seen.__setitem__(
        model,
        torch.stack([p.grad.norm() for p in sae.part(model).parameters() if p.grad is not None]).norm().item(),
    )
    engine.step({"a": rows})
    assert set(seen) == {"a", "b"}
    for norm in seen.values():
        assert norm == pytest.approx(1e-3, rel=1e-2)


def test_dictionaries_normalised_once_are_normalised_again_when_they_move(world, recipe):
    """A step after others is the step of an engine that starts from the same weights."""
    sae, engine, rows = started(world, recipe)
    for source in "aba":
        engine.step({source: rows})
    fresh = Optimisation(sae, recipe, SCHEDULE)
    fresh.restore(copy.deepcopy(engine.state()))
    first = engine.compute({"b": rows}).total
    assert torch.equal(first, fresh.compute({"b": rows}).total)


@pytest.mark.parametrize("aux", ["none", "multi_topk", "dead"])
def test_a_restored_engine_goes_on_to_the_bit(world, recipe, aux):
    params = recipe.model_copy(update={"aux": aux, "dead_after": 1})
    sae, engine, rows = started(world, params)
    for source in "abaab":
        engine.step({source: rows})
    other_sae, other, _ = started(world, params)
    other.restore(copy.deepcopy(engine.state()))  # an optimiser keeps the tensors that it is given
    for source in "bab":
        one, two = engine.step({source: rows}), other.step({source: rows})
        assert torch.equal(one.loss.total, two.loss.total)
        assert one.rate == two.rate
    for name, value in sae.state_dict().items():
        assert torch.equal(value, other_sae.state_dict()[name]), name


def test_silence_is_counted_per_source(world, recipe):
    _, engine, rows = started(world, recipe.model_copy(update={"aux": "dead"}), k=1)
    for _ in range(3):
        update = engine.step({"a": rows})
    fired = update.loss.codes["a"].indices[update.loss.codes["a"].values > 0].unique()
    assert (engine.silent["a"][fired] == 0).all()
    assert engine.silent["a"].max() <= 3
    assert (engine.silent["b"] == 0).all()  # never the source


def test_dead_concepts_come_back(world, recipe):
    """Encoder rows that can never fire: only the term for the dead moves them."""
    for aux, revived in (("none", False), ("dead", True)):
        params = recipe.model_copy(
            update={
                "aux": aux,
                "dead_after": 2,
                "aux_weight": 1.0,
                "weight_decay": 0.0,
                "final_learning_rate": 3e-3,
            }
        )
        sae, engine, rows = started(world, params)
        with torch.no_grad():
            sae.part("a").encoder.norm.bias[:5] = -0.6  # below the chosen ones, sometimes positive
            sae.part("a").encoder.norm.weight[:5] = 0.3
        start = sae.part("a").encoder.norm.bias[:5].clone()
        engine.silent["a"][:5] = 100
        for _ in range(3):
            engine.step({"a": rows})
        assert bool((sae.part("a").encoder.norm.bias[:5] > start).any()) == revived


class Asked(TorchDispatchMode):
    """Operations whose result has a size or value that the program waits for, or that bring in a number."""

    WAITS = ("_local_scalar_dense", "nonzero", "bincount", "_unique", "masked_select", "lift_fresh")

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if any(name.startswith(wait) for wait in self.WAITS):
            self.seen.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("loss", ["l1", "l2", "frobenius"])
def test_a_step_never_waits_for_a_number(world, recipe, loss):
    """On a GPU each would empty its queue, every step."""
    _, engine, rows = started(world, recipe.model_copy(update={"loss": loss, "aux": "none", "update": "all"}))
    with Asked() as asked:
        for source in ("a", "b", "a"):
            engine.step({source: rows})
    assert asked.seen == []


def test_waiting_is_noticed():
    numbers = torch.rand(3)
    with Asked() as asked:
        float(numbers.sum())
        numbers[[0, 2]]
        numbers[numbers > 0.5]
    assert {"_local_scalar_dense", "lift_fresh"} <= set(asked.seen)


def test_weights_decay_apart_from_the_gradient(world, recipe):
    """AdamW: beside the step without decay, every weight loses rate * decay of itself, whatever its gradient."""
    after = []
    for decay in (0.0, 0.1):
        params = recipe.model_copy(update={"weight_decay": decay, "schedule": "per_model"})
        sae, engine, rows = started(world, params)
        before = {name: value.detach().clone() for name, value in sae.part("a").named_parameters()}
        rate = engine.step({"a": rows}).rate
        after.append(dict(sae.part("a").named_parameters()))
    for name, start in before.items():
        torch.testing.assert_close(after[1][name], after[0][name] - rate * 0.1 * start, rtol=0, atol=1e-6)
    assert rate * 0.1 * before["encoder.norm.weight"].min() > 1e-4


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_coarse_encoders_move_by_their_share_of_a_step(world, recipe, share):
    moved = []
    for rate in (1.0, share):
        sae, engine, rows = started(world, recipe.model_copy(update={"levels": (8,), "coarse_rate": rate}))
        before = {name: value.detach().clone() for name, value in sae.named_parameters()}
        for source in "ab":
            engine.step({source: rows})
        assert not torch.equal(sae.part("b").dictionary.weight, before["parts.b.dictionary.weight"])
        moved.append(
            {
                name: value - before[name]
                for name, value in sae.part("a").encoder.named_parameters(prefix="parts.a.encoder")
            }
        )
    for name, whole in moved[0].items():
        torch.testing.assert_close(moved[1][name][:8], share * whole[:8], rtol=1e-3, atol=2e-7)
        torch.testing.assert_close(moved[1][name][8:], whole[8:])
        assert whole.abs().max() > 0 or name.endswith("bias")


def test_an_update_from_several_sources_steps_all_of_them(world, recipe):
    sae, engine, rows = started(world, recipe.model_copy(update={"update": "source"}))
    before = {name: value.clone() for name, value in sae.state_dict().items()}
    engine.step({"b": [part[::2] for part in rows], "a": [part[1::2] for part in rows]})
    moved = {name for name, value in sae.named_parameters() if not torch.equal(value, before[name])}
    assert {f"parts.{model}.{part}.weight" for model in "ab" for part in ("encoder.linear", "dictionary")} <= moved
    assert engine.steps == 1
