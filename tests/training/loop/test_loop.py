import dataclasses
import os
import re
import subprocess
import sys
import termios
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from usae.activations.sampling import PairedActivations, order
from usae.activations.store.manifests import Manifest
from usae.common.errors import Diverged, UserError
from usae.common.seeds import seed_of
from usae.common.variant import Variant
from usae.training.loop import loop
from usae.training.loop.checkpoints import Checkpoints
from usae.training.loop.loop import Budget, RunOptions, prepare, train
from usae.training.loop.schedule import Schedule
from usae.training.loop.trainer import Trainer

RUNNING = RunOptions(torch.device("cpu"))
MATCHED = {"usae": Variant(k=4, seed=0)}
ROOT = Path(__file__).parents[3]
LIVE = """
import sys
from pathlib import Path
import torch
from tests.support.worlds import RECIPE, two_models
from usae.common.variant import Variant
from usae.training.loop.loop import RunOptions, train

train({"usae": Variant(4, 0)}, *two_models(Path(sys.argv[1])), RECIPE, RunOptions(torch.device("cpu")), seed=0)
"""


def trained(world, recipe, variant=MATCHED["usae"], **options):
    manifests, data = world
    one = train({"usae": variant}, manifests, data, recipe, RUNNING, seed=0, **options)["usae"]
    return one.sae, one.log


def r2(sae, data, source, target):
    rows = data.rows(np.arange(data.images))
    with torch.no_grad():
        truth = sae.standardise(target, rows[target])
        error = truth - sae.decode(target, sae.encode({source: rows[source]})[source])
    return 1 - (error.square().sum() / (truth - truth.mean(0)).square().sum()).item()


def same_bits(one, two):
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name


def test_it_learns_both_models_and_the_way_between_them(world, recipe):
    sae, log = trained(world, recipe)
    assert not sae.training
    assert len(log) == 200
    assert log["loss"].tail(20).mean() < 0.9 * log["loss"].head(20).mean()
    for source in "ab":
        for target in "ab":
            assert r2(sae, world[1], source, target) > 0.4, (source, target)


def test_with_shuffled_pairs_nothing_crosses(world, recipe):
    sae, log = trained(world, recipe, Variant(k=4, seed=0, pairs="shuffled"))
    assert len(log) == 200
    assert r2(sae, world[1], "a", "a") > 0.3
    assert r2(sae, world[1], "a", "b") < 0.05
    assert r2(sae, world[1], "b", "a") < 0.05


def test_the_same_seed_gives_the_same_bits(world, recipe):
    short = recipe.model_copy(update={"epochs": 2})
    (one, log), (two, again) = (trained(world, short, Variant(k=4, seed=3)) for _ in range(2))
    pd.testing.assert_frame_equal(log, again)
    same_bits(one, two)


def test_side_by_side_is_as_if_alone(world, recipe):
    manifests, data = world
    short = recipe.model_copy(update={"epochs": 2})
    variants = {
        "main": Variant(4, 0),
        "seed": Variant(4, 1),
        "k": Variant(2, 0),
        "null": Variant(4, 0, "shuffled"),
    }
    together = train(variants, manifests, data, short, RUNNING, seed=0)
    assert list(together) == list(variants)
    for name, variant in variants.items():
        sae, log = trained(world, short, variant)
        same_bits(together[name].sae, sae)
        pd.testing.assert_frame_equal(together[name].log, log)


@pytest.mark.parametrize("small", [0, 1 << 24], ids=["one by one", "side by side"])
def test_starts_that_are_made_side_by_side_are_as_if_alone(world, recipe, monkeypatch, small):
    monkeypatch.setattr(loop, "SMALL_START", small)
    start, starting, most = loop.new_method, [], []
    together = threading.Barrier(2 if small else 1, timeout=60)

    def noted(given):
        starting.append(given)
        together.wait()
        most.append(len(starting))
        method = start(given)
        starting.remove(given)
        return method

    clusters = recipe.model_copy(update={"init": "clusters"})
    variants = {f"seed-{seed}": Variant(4, seed) for seed in range(8)}
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        alone = {name: trained(world, clusters, variant, steps=1)[0] for name, variant in variants.items()}
        monkeypatch.setattr(loop, "new_method", noted)
        found = side_by_side(world, clusters, variants, steps=1)
    finally:
        torch.set_num_threads(threads)
    for name, sae in alone.items():
        same_bits(found[name].sae, sae)
    assert max(most) == (2 if small else 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_variants_of_some_of_the_models_are_as_if_only_these_were_opened(world, recipe):
    manifests, data = world
    short = recipe.model_copy(update={"epochs": 2})
    variants = {
        "both": Variant(4, 0),
        "one": Variant(4, 0, models=("b",)),
        "turned": Variant(4, 0, "shuffled", models=("b", "a")),
    }
    together = train(variants, manifests, data, short, RUNNING, seed=0)
    assert [together[name].sae.models for name in variants] == [("a", "b"), ("b",), ("b", "a")]
    for name, variant in variants.items():
        names = variant.models or ("a", "b")
        alone = {model: manifests[model] for model in names}, data.select(names)
        sae, log = trained(alone, short, variant)
        same_bits(together[name].sae, sae)
        pd.testing.assert_frame_equal(together[name].log, log)


def test_the_log_scores_some_steps(world, recipe):
    _, log = trained(world, recipe)
    scored = log[log["r2_cross"].notna()]
    assert scored["step"].tolist() == list(range(0, 200, 20))
    assert scored["r2_cross"].iloc[-1] > 0.4
    assert (scored["r2_self"].iloc[-3:] > 0.4).all()
    assert (log["auxiliary"] == 0).all()


def test_eight_models(make_store, recipe):
    rng = np.random.default_rng(0)
    causes = rng.random((16, 6, 12)) * (rng.random((16, 6, 12)) < 0.15)
    widths = {f"m{i}": 5 + i for i in range(8)}
    stores = {
        m: make_store(m, (causes @ rng.normal(size=(12, d))).astype("float16"), 8) for m, d in widths.items()
    }
    manifests = {name: Manifest.generated(name, store) for name, store in stores.items()}
    sae, log = trained((manifests, PairedActivations(stores)), recipe)
    assert sae.widths == widths
    assert set(log["source"]) == set(widths)
    assert log["loss"].tail(10).mean() < log["loss"].head(10).mean()


def test_a_loss_that_is_not_finite_stops_with_its_place(world, recipe):
    manifests, data = world
    broken = {name: dataclasses.replace(m, std=float("nan")) for name, m in manifests.items()}
    sentence = (
        r"The loss is nan and the gradient's norm nan at step 0 \(epoch 0, source '[ab]'\): numbers that are not "
        r"finite\. Lower `train\.learning_rate`, or raise `train\.warmup_epochs`; `usae store verify` says "
        r"whether the activations are sound\. There is no checkpoint from before\."
    )
    with pytest.raises(Diverged, match=sentence):
        trained((broken, data), recipe)


def test_a_loss_that_runs_away_stops_and_keeps_the_last_good_checkpoint(tmp_path, world, recipe):
    """The rate rises over all epochs; every step is kept, the last one from before the loss has run away."""
    manifests, data = world
    keys = {"learning_rate": 1e6, "warmup_epochs": 30, "clip_norm": 1e9, "loss": "l2"}
    folder = tmp_path / "run"
    running = RunOptions(torch.device("cpu"), checkpoints=Checkpoints(folder, {}, 0))
    with pytest.raises(Diverged) as error:
        train(MATCHED, manifests, data, recipe.model_copy(update=keys), running, seed=0)
    found = re.fullmatch(
        r"Training diverges: the mean loss was (\S+) at best \(step (\d+)\) and is (\S+) at step (\d+), more than "
        r"5 times as much\. Lower .*sound\. The last good checkpoint, after (\d+) steps, is kept in (.*)\.",
        str(error.value),
    )
    best, best_step, worst, step, kept = map(float, found.groups()[:5])
    assert found[6] == str(folder)
    state = Checkpoints(folder, {}, 0).load()
    assert state["step"] == kept == step
    member = state["members"]["usae"]
    assert member["watch"]["best"] == pytest.approx(best, rel=1e-3)
    assert member["watch"]["best_step"] == best_step
    assert member["watch"]["mean"] <= 5 * best * 1.001 < worst * 1.002
    assert torch.isfinite(torch.cat([value.flatten() for value in member["method"]["sae"].values()])).all()


def test_the_tracker_is_told_every_row_by_the_end_and_before_a_checkpoint(tmp_path, world, recipe):
    manifests, data = world
    told = []
    for minutes, steps in ((60, [9]), (0, list(range(10)))):
        checkpoints = Checkpoints(tmp_path / str(minutes), {}, minutes)
        running = RunOptions(RUNNING.device, checkpoints=checkpoints, track=lambda step, _: told.append(step))
        train(MATCHED, manifests, data, recipe, running, seed=0, steps=10)
        assert told == steps
        told.clear()


def test_a_terminal_shows_speed_time_left_loss_and_r2(tmp_path):
    parent, child = os.openpty()
    termios.tcsetwinsize(child, (40, 160))
    process = subprocess.Popen([sys.executable, "-c", LIVE, str(tmp_path)], cwd=ROOT, stderr=child)
    os.close(child)
    shown = b""
    try:
        while part := os.read(parent, 65536):
            shown += part
    except OSError:  # Linux says so of a terminal whose other end is closed
        pass
    assert process.wait() == 0
    pattern = (
        r"train: +\d+%\|.* \d+/200 \[\d\d:\d\d<\d\d:\d\d, +[\d.]+(step/s|s/step), loss \d+\.\d{3}, "
        r"cross R2 -?\d\.\d\d, [\d,]+ tokens/s, \d+% waiting, best \d+\.\d{3}\]"
    )
    assert re.search(pattern, shown.decode()), shown


def test_a_batch_larger_than_the_set(world, recipe):
    with pytest.raises(UserError, match="there are only 40 training images"):
        trained(world, recipe.model_copy(update={"batch_images": 64}))


def test_a_share_of_the_steps_has_a_share_of_the_warm_up(recipe):
    budget = Budget(recipe.model_copy(update={"warmup_epochs": 2}), 5, 200)
    assert budget.schedule(Variant(4, 0)) == Schedule(recipe.learning_rate, recipe.final_learning_rate, 10, 200)
    third = budget.schedule(Variant(4, 0, share_of_steps=3))
    assert (third.warmup, third.steps) == (4, 67)


def side_by_side(world, recipe, variants, steps=12, **options):
    return train(variants, *world, recipe, RunOptions(torch.device("cpu")), seed=0, steps=steps, **options)


def test_company_changes_no_bit_of_an_sae(world, recipe):
    variants = {f"seed-{seed}": Variant(4, seed) for seed in range(3)}
    three = side_by_side(world, recipe, variants)
    two = side_by_side(world, recipe, {name: variants[name] for name in ("seed-2", "seed-0")})
    for name, result in two.items():
        pd.testing.assert_frame_equal(result.log, three[name].log)
        for key, tensor in result.sae.state_dict().items():
            assert torch.equal(tensor, three[name].sae.state_dict()[key])


def test_one_trained_for_fewer_steps_stops_there_and_the_start_is_before_all(world, recipe):
    trained = side_by_side(world, recipe, {"whole": Variant(4, 0), "brief": Variant(4, 0, share_of_steps=3)})
    assert [len(trained[name].log) for name in ("whole", "brief")] == [12, 4]
    whole, brief = (trained[name].start.state_dict() for name in ("whole", "brief"))
    assert all(torch.equal(tensor, brief[key]) for key, tensor in whole.items())
    start, sae = (each.dictionary("a") for each in (trained["whole"].start, trained["whole"].sae))
    assert not torch.allclose(start, sae)
    assert not trained["whole"].start.training


def test_the_start_normalises_by_the_statistics_of_training_tokens(world, recipe):
    start = side_by_side(world, recipe, {"usae": Variant(4, 0)}, steps=1)["usae"].start
    data = world[1]
    for model, rows in data.rows(np.arange(data.images)).items():
        part = start.part(model)
        pre = part.encoder.linear(part.standardise(rows))
        torch.testing.assert_close(part.encoder.norm.running_mean, pre.mean(0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(part.encoder.norm.running_var, pre.var(0), rtol=1e-3, atol=1e-5)


def test_a_half_sees_its_own_images_alone(world, recipe, monkeypatch):
    """Read from every batch: the images of the first half, as often as whole epochs have them."""
    seen, first = {None: [], 0: []}, {}
    step = Trainer.step

    def noted(trainer, batch):
        seen[trainer.variant.half].append(batch.activations["a"][:, 0])
        first.setdefault(trainer.variant.half, batch.images)
        step(trainer, batch)

    monkeypatch.setattr(Trainer, "step", noted)
    halves = [np.arange(0, 40, 2), np.arange(1, 40, 2)]
    variants = {"usae": Variant(4, 0), "half-1": Variant(4, 5, half=0)}
    whole_images = recipe.model_copy(update={"shuffle_tokens": False})
    side_by_side(world, whole_images, variants, steps=15, halves=halves)
    tokens = {None: world[1].rows(np.arange(40)), 0: world[1].rows(halves[0])}
    own = order(seed_of(0, "order of a half", 0), 0, 20)
    np.testing.assert_array_equal(first[0], own[:8])
    assert not np.array_equal(own, order(0, 0, 20))
    for half, values in seen.items():
        epoch = tokens[half]["a"][:, 0]
        times = len(torch.cat(values)) // len(epoch)
        assert torch.equal(torch.cat(values).sort().values, epoch.repeat(times).sort().values)


def test_a_half_reads_only_the_models_that_it_trains_on(world, recipe):
    manifests, data = world
    variants = {"usae": Variant(4, 0), "half-1": Variant(4, 5, models=("b",), half=0)}
    prepared = prepare(variants, manifests, data, recipe, RUNNING, seed=0, halves=[np.arange(20)])
    assert {half: loader.data.models for half, loader in prepared.loaders.items()} == {None: ("a", "b"), 0: ("b",)}


def test_a_single_model_trains_for_as_many_steps_as_told(world, recipe):
    manifests, data = world
    alone = {"a": manifests["a"]}, data.select(["a"])
    _, log = trained(alone, recipe, steps=7)
    assert log["step"].tolist() == list(range(7))
    assert set(log["source"]) == {"a"}
    assert log["r2_cross"].isna().all()
