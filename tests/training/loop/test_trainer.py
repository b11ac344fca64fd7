"""One SAE in training: which source, what is logged, and when it is stopped."""

import re

import numpy as np
import pandas as pd
import pytest
import torch

from usae.activations.sampling import Loader, Plan
from usae.common.errors import Diverged
from usae.common.runtime.ranks import Ranks
from usae.common.variant import Variant
from usae.training.loop.log import TrainingLog
from usae.training.loop.method import Start
from usae.training.loop.optimisation import Optimisation
from usae.training.loop.schedule import Schedule
from usae.training.loop.trainer import SPAN, Trainer, Watch
from usae.training.loop.universal import UniversalMethod, draw_source
from usae.training.start import new_sae


@pytest.fixture
def new_trainer(world, recipe):
    manifests, data = world

    def new():
        variant, schedule = Variant(4, 0), Schedule(3e-3, 0, 0, 60)
        given = Start(variant, manifests, data, recipe, schedule, Ranks.current(), torch.device("cpu"))
        sae = new_sae(manifests, data, recipe, variant)
        method = UniversalMethod(Optimisation(sae, recipe, schedule), given)
        return Trainer(variant, ("a", "b"), method, TrainingLog(), 60)

    return new


def batches(world, steps):
    return Loader(world[1], Plan(8, 0), torch.device("cpu")).batches(0, steps)


def test_sources_are_uniform_and_a_function_of_seed_and_step():
    draws = pd.Series([draw_source(0, step, ("a", "b", "c")) for step in range(3000)])
    assert draws.value_counts().between(900, 1100).all()
    assert [draw_source(0, step, ("a", "b", "c")) for step in range(50)] == draws[:50].tolist()
    assert [draw_source(1, step, ("a", "b", "c")) for step in range(50)] != draws[:50].tolist()


def test_when_one_looks_changes_nothing(world, new_trainer):
    often, once = new_trainer(), new_trainer()
    for batch in batches(world, 45):
        often.step(batch)
        once.step(batch)
        often.look()
    assert len(once.log) == 0
    once.look()
    pd.testing.assert_frame_equal(often.log.frame(), once.log.frame())
    assert often.watch == once.watch
    assert often.r2_cross == once.r2_cross == once.log.frame()["r2_cross"].dropna().iloc[-1]


def test_the_mean_loss_and_its_best():
    losses = 1 + np.random.default_rng(0).random(200)
    watch, means = Watch(), [losses[0]]
    for step, loss in enumerate(losses):
        watch.see(float(loss), step)
        means += [means[-1] + (loss - means[-1]) / SPAN] if step else []
    assert watch == Watch(means[-1], min(means), int(np.argmin(means)))


def test_a_mean_loss_of_more_than_five_times_the_best_ends_training():
    watch = Watch()
    watch.see(2.0, 0)
    watch.see(1.0, 1)  # the mean is 1.95, and the border 9.75
    watch.see(1.95 + 7.79 * SPAN, 2)
    assert watch.mean == pytest.approx(9.74)
    sentence = "the mean loss was 1.95 at best (step 1) and is 9.76 at step 3, more than 5 times as much."
    with pytest.raises(Diverged, match=re.escape(sentence)):
        watch.see(9.74 + 0.02 * SPAN, 3)


@pytest.mark.parametrize(("loss", "norm"), [(float("nan"), 1.0), (float("inf"), 1.0), (0.5, float("inf"))])
def test_numbers_that_are_not_finite_stop_before_they_are_logged(new_trainer, loss, norm):
    trainer = new_trainer()
    trainer.unread.append((7, 1, "a", 1e-3, torch.tensor([loss, loss, norm, torch.nan, torch.nan])))
    sentence = f"The loss is {loss:.4g} and the gradient's norm {norm:.4g} at step 7 (epoch 1, source 'a')"
    with pytest.raises(Diverged, match=re.escape(sentence)):
        trainer.look()
    assert len(trainer.log) == 0


def test_a_restored_trainee_goes_on_to_the_bit(world, new_trainer):
    whole, first, second = new_trainer(), new_trainer(), new_trainer()
    for batch in batches(world, 40):
        whole.step(batch)
        (first if batch.step < 23 else second).step(batch)
        if batch.step == 22:
            first.look()
            second.restore(first.state())
    whole.look()
    second.look()
    pd.testing.assert_frame_equal(second.log.frame(), whole.log.frame())
    assert second.watch == whole.watch
    for name, value in whole.method.sae.state_dict().items():
        assert torch.equal(value, second.method.sae.state_dict()[name]), name
