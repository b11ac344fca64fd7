"""Which tokens a step of the universal SAE encodes, and a run of several sources and levels."""

import numpy as np
import pandas as pd
import pytest
import torch

from usae.common.errors import Interrupted
from usae.common.runtime.ranks import Ranks
from usae.common.variant import Variant
from usae.training.loop.checkpoints import Checkpoints
from usae.training.loop.loop import RunOptions, train
from usae.training.loop.method import ALL_MODELS, Start
from usae.training.loop.schedule import Schedule
from usae.training.loop.trainer import Trainer
from usae.training.loop.universal import draw_source, start
from usae.training.step.reference import reference_step

CPU = torch.device("cpu")
ALL_OF_IT = {"init": "clusters", "levels": (8,), "sources": "each"}


@pytest.fixture
def method(world, recipe):
    """A method before its first step; each call of its optimisation is kept, not carried out."""

    def new(sources, seed=0):
        manifests, data = world
        params = recipe.model_copy(update={"sources": sources})
        given = Start(Variant(4, seed), manifests, data, params, Schedule(3e-3, 0, 0, 60), Ranks(), CPU)
        return start(given)

    return new


def asked_of(method, tokens, step):
    """The rows of every source, as the optimisation is asked to step them."""
    asked = []
    literal = method.optimisation.step
    method.optimisation.step = lambda sources: asked.append(sources) or literal(sources)
    update = method.step(tokens, step, scored=True)
    return update, asked[0]


def test_each_token_has_one_source(world, method):
    rows = world[1].rows(np.arange(8))  # 48 tokens
    update, sources = asked_of(method("each"), rows, 5)
    assert set(sources) == {"a", "b"}
    sae = method("each").sae
    whole = torch.cat([sae.part(model).standardise(rows[model]) for model in "ab"], 1)  # (48, both widths)
    parts = [torch.cat(list(own), 1) for own in sources.values()]
    assert [len(part) for part in parts] == [24, 24]
    assert sorted(map(tuple, torch.cat(parts).tolist())) == sorted(map(tuple, whole.tolist()))
    assert update.about == ALL_MODELS
    assert update.r2.isfinite().all()


def test_the_turns_change_from_step_to_step_and_follow_from_the_seed(world, method):
    rows = world[1].rows(np.arange(8))
    firsts = [asked_of(method("each"), rows, step)[1]["a"][0] for step in range(8)]
    assert len({float(first.sum()) for first in firsts}) == 2
    assert torch.equal(firsts[3], asked_of(method("each"), rows, 3)[1]["a"][0])
    others = [asked_of(method("each", seed=1), rows, step)[1]["a"][0] for step in range(8)]
    assert not all(torch.equal(one, other) for one, other in zip(firsts, others, strict=True))


def test_too_few_tokens_to_share_out_are_those_of_one_model(world, method):
    rows = {model: own[:10] for model, own in world[1].rows(np.arange(8)).items()}
    update, sources = asked_of(method("each"), rows, 2)
    assert list(sources) == [update.about] == [draw_source(0, 2, ("a", "b"))]
    assert len(sources[update.about][0]) == 10


def test_all_is_the_mean_of_one_after_the_other(world, recipe, method):
    rows = world[1].rows(np.arange(8))
    update, sources = asked_of(method("all"), rows, 0)
    fresh = method("all")
    standardised = [fresh.sae.part(model).standardise(rows[model]) for model in fresh.sae.models]
    for own in sources.values():
        assert all(torch.equal(one, two) for one, two in zip(own, standardised, strict=True))
    losses = [
        reference_step(method("one").sae, {model: standardised}, fresh.optimisation.compute.recipe).total
        for model in fresh.sae.models
    ]
    torch.testing.assert_close(update.loss, torch.stack(losses).mean())


def test_each_model_a_source_beats_one_of_them_at_the_same_cost(world, recipe):
    """The reason for it: encoders learn in every step. Measured on real networks in docs/concepts.md."""
    manifests, data = world
    logs = {
        sources: train(
            {"usae": Variant(4, 0)},
            manifests,
            data,
            recipe.model_copy(update={"sources": sources, "epochs": 12}),
            RunOptions(CPU),
            seed=0,
        )["usae"].log
        for sources in ("one", "each")
    }
    late = {sources: log["loss"].tail(20).mean() for sources, log in logs.items()}
    assert late["each"] < late["one"]


@pytest.mark.parametrize("dictionary_rows", ["free", "archetypes"])
def test_a_run_with_levels_from_clusters_goes_on_to_the_bit(world, recipe, tmp_path, monkeypatch, dictionary_rows):
    manifests, data = world
    params = recipe.model_copy(update={**ALL_OF_IT, "dictionary_rows": dictionary_rows, "epochs": 4})

    def trained(options):
        return train({"usae": Variant(4, 0)}, manifests, data, params, options, seed=0)["usae"]

    alone = trained(RunOptions(CPU))
    options = RunOptions(CPU, checkpoints=Checkpoints(tmp_path / "checkpoints", {"test": 1}, minutes=0))
    literal = Trainer.step

    def cut(self, batch):
        if batch.step == 9:
            raise Interrupted(9, 15)
        literal(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", cut)
        with pytest.raises(Interrupted):
            trained(options)
    assert len(list((tmp_path / "checkpoints/starts/usae").iterdir())) == 2
    again = trained(options)
    pd.testing.assert_frame_equal(again.log, alone.log)
    for one, two in ((again.sae, alone.sae), (again.start, alone.start)):
        for name, value in one.state_dict().items():
            assert torch.equal(value, two.state_dict()[name]), name
