import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from usae.errors import UserError
from usae.sae import top_k
from usae.sampling import PairedActivations
from usae.training import Running, Variant, draw_source, independent_steps, train

RUNNING = Running(torch.device("cpu"))


@pytest.fixture
def world(make_store, manifest_of):
    """Two models that see the same sparse causes through different random maps."""
    rng = np.random.default_rng(0)
    causes = rng.random((40, 6, 12)) * (rng.random((40, 6, 12)) < 0.15)
    maps = {"a": rng.normal(size=(12, 8)), "b": rng.normal(size=(12, 10))}
    stores = {name: make_store(name, (causes @ m).astype("float16"), 8) for name, m in maps.items()}
    return {name: manifest_of(name, store) for name, store in stores.items()}, PairedActivations(
        list(stores.values())
    )


@pytest.fixture
def recipe(params):
    return params.train.model_copy(
        update={"dictionary": 24, "epochs": 40, "batch_images": 8, "learning_rate": 3e-3}
    )


def r2(sae, data, source, target):
    rows = dict(zip(sae.models, data.rows(np.arange(data.images)), strict=True))
    with torch.no_grad():
        truth = sae.standardise(target, rows[target])
        error = truth - sae.decode(target, sae.encode(source, rows[source]))
    return 1 - (error.square().sum() / (truth - truth.mean(0)).square().sum()).item()


def test_it_learns_both_models_and_the_way_between_them(world, recipe):
    manifests, data = world
    sae, log = train(manifests, data, recipe, k=4, seed=0, device=DEVICE)
    assert not sae.training
    assert len(log) == 200
    assert log["loss"].tail(20).mean() < 0.9 * log["loss"].head(20).mean()
    for source in "ab":
        for target in "ab":
            assert r2(sae, data, source, target) > 0.4, (source, target)


def test_with_shuffled_pairs_nothing_crosses(world, recipe):
    manifests, data = world
    shuffled = recipe.model_copy(update={"pairs": "shuffled"})
    sae, log = train(manifests, data, shuffled, k=4, seed=0, device=DEVICE)
    assert len(log) == 200
    assert r2(sae, data, "a", "a") > 0.3
    assert r2(sae, data, "a", "b") < 0.05
    assert r2(sae, data, "b", "a") < 0.05


def test_the_same_seed_gives_the_same_bits(world, recipe):
    manifests, data = world
    short = recipe.model_copy(update={"epochs": 2})
    (one, log), (two, again) = (train(manifests, data, short, k=4, seed=3, device=DEVICE) for _ in range(2))
    pd.testing.assert_frame_equal(log, again)
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name


@pytest.mark.parametrize("update", ["source", "all"])
def test_who_steps(world, recipe, update):
    manifests, data = world
    params = recipe.model_copy(update={"update": update})
    sae = new_sae(manifests, data, params, k=4, seed=0)
    before = {name: value.clone() for name, value in sae.state_dict().items()}
    engine = Engine(sae, params, Schedule(3e-3, 1e-6, 2, 10))
    rows = data.rows(np.arange(8))
    engine.step("a", [sae.standardise(m, x) for m, x in zip(sae.models, rows, strict=True)])
    moved = {name for name, value in sae.named_parameters() if not torch.equal(value, before[name])}
    assert "parts.a.encoder.linear.weight" in moved
    assert "parts.a.dictionary.weight" in moved
    assert "parts.b.encoder.linear.weight" not in moved
    assert ("parts.b.dictionary.weight" in moved) == (update == "all")


def test_paired_init_starts_a_concept_at_one_token_in_every_model(world, recipe):
    manifests, data = world
    sae = new_sae(manifests, data, recipe, k=4, seed=0)
    images = np.arange(data.images)
    cosines = []
    for model, raw in zip(sae.models, data.rows(images), strict=True):
        rows = sae.standardise(model, raw)  # (tokens, width)
        cosines.append(sae.dictionary(model) @ torch.nn.functional.normalize(rows).T)
    together = torch.minimum(*cosines)  # a token that is the concept's direction in both models
    torch.testing.assert_close(together.max(1).values, torch.ones(24), atol=1e-5, rtol=0)


def test_paired_init_reconstructs_before_the_first_step(world, recipe):
    manifests, data = world
    scores = {}
    for init in ("random", "paired"):
        sae = new_sae(manifests, data, recipe.model_copy(update={"init": init}), k=4, seed=0)
        rows = sae.standardise("a", data.rows(np.arange(data.images))[0])
        sae.train()
        codes = top_k(sae.part("a").encoder(rows), 4)
        error = (rows - sae.decode("a", codes)).square().sum()
        scores[init] = 1 - (error / rows.square().sum()).item()
    assert scores["paired"] > 0.4
    assert scores["random"] < 0


def test_shuffled_pairs_start_mispaired_too(world, recipe):
    manifests, data = world
    shuffled = new_sae(manifests, data, recipe.model_copy(update={"pairs": "shuffled"}), k=4, seed=0)
    matched = new_sae(manifests, data, recipe, k=4, seed=0)
    assert torch.equal(shuffled.dictionary("a"), matched.dictionary("a"))
    assert not torch.equal(shuffled.dictionary("b"), matched.dictionary("b"))


def test_paired_init_needs_enough_tokens(world, recipe):
    manifests, data = world
    with pytest.raises(UserError, match="are fewer than the 1000 concepts; lower `train.dictionary`"):
        new_sae(manifests, data, recipe.model_copy(update={"dictionary": 1000}), k=4, seed=0)


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


@pytest.mark.parametrize("kind", ["per_model", "global"])
def test_rates_follow_the_named_schedule(world, recipe, kind):
    manifests, data = world
    params = recipe.model_copy(update={"schedule": kind, "update": "source"})
    sae = new_sae(manifests, data, params, k=4, seed=0)
    schedule = Schedule(3e-3, 1e-6, 4, 20)
    engine = Engine(sae, params, schedule)
    rows = [sae.standardise(m, x) for m, x in zip(sae.models, data.rows(np.arange(8)), strict=True)]
    rates = [engine.step(source, rows)[2] for source in ("a", "b", "a")]
    if kind == "per_model":  # each model's own updates count, and its first one is at full rate
        assert rates == [3e-3, 3e-3, schedule.rate(1)]
    else:
        assert rates == [schedule.rate(0), schedule.rate(1), schedule.rate(2)]


def test_clipping_bounds_the_gradient_of_each_sae(world, recipe):
    manifests, data = world
    params = recipe.model_copy(update={"clip_norm": 1e-3})
    sae = new_sae(manifests, data, params, k=4, seed=0)
    engine = Engine(sae, params, Schedule(3e-3, 1e-6, 2, 10))
    seen = {}
    engine._update = lambda model: seen.__setitem__(
        model,
        torch.stack([p.grad.norm() for p in sae.part(model).parameters() if p.grad is not None]).norm().item(),
    )
    engine.step("a", [sae.standardise(m, x) for m, x in zip(sae.models, data.rows(np.arange(8)), strict=True)])
    assert set(seen) == {"a", "b"}
    for norm in seen.values():
        assert norm == pytest.approx(1e-3, rel=1e-2)


def test_a_loss_that_is_not_finite_stops_with_its_place(world, recipe):
    manifests, data = world
    broken = {name: dataclasses.replace(m, std=float("nan")) for name, m in manifests.items()}
    with pytest.raises(UserError, match=r"The loss is nan at step 0 \(epoch 0, source '[ab]'\). Lower"):
        train(broken, data, recipe, k=4, seed=0, device=DEVICE)


def test_a_batch_larger_than_the_set(world, recipe):
    manifests, data = world
    with pytest.raises(UserError, match="there are only 40 training images"):
        train(manifests, data, recipe.model_copy(update={"batch_images": 64}), k=4, seed=0, device=DEVICE)


def test_steps_of_a_single_model(recipe):
    source, everyone = (recipe.model_copy(update={"update": update}) for update in ("source", "all"))
    assert independent_steps(source, 40, 2) == 100
    assert independent_steps(everyone, 40, 2) == 200


def test_a_single_model_trains_for_as_many_steps_as_told(world, recipe):
    manifests, data = world
    alone = PairedActivations(data.stores[:1])
    _, log = train({"a": manifests["a"]}, alone, recipe, k=4, seed=0, device=DEVICE, steps=7)
    assert log["step"].tolist() == list(range(7))
    assert set(log["source"]) == {"a"}


def test_the_curve_is_thinned(tmp_path):
    log = pd.DataFrame({"step": range(1000), "source": ["a", "b"] * 500, "loss": 1.0})
    write_curve(log, tmp_path / "plots" / "training.csv", points=50)
    curve = pd.read_csv(tmp_path / "plots" / "training.csv")
    assert len(curve) == 100
    assert list(curve.columns) == ["step", "source", "loss"]
