"""Methods of the family train in the run's loop: from its start, and to the bit after an interruption."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from usae.common.errors import UserError
from usae.common.runtime.ranks import Ranks
from usae.common.variant import Variant
from usae.methods.joint.sae import FreeCrosscoder
from usae.methods.joint.step import JointStep
from usae.methods.sparc import start as sparc_start
from usae.sae.universal import UniversalSAE
from usae.training.loop.checkpoints import Checkpoints
from usae.training.loop.loop import RunOptions, train
from usae.training.loop.method import ALL_MODELS, Start
from usae.training.loop.schedule import Schedule
from usae.training.start import new_sae

OPTIONS = RunOptions(torch.device("cpu"))
FAMILY = (
    "usae_all", "archetypal", "sparc_local", "sparc", "sparc_even", "crosscoder_unit", "crosscoder",
    "crosscoder_masked", "crosscoder_dedicated", "crosscoder_l1", "batch_top_k", "matryoshka",
)  # fmt: skip


@pytest.fixture
def short(recipe):
    """Thirty steps, for what does not depend on how far training goes."""
    return recipe.model_copy(update={"epochs": 6})


def trained(world, recipe, *methods, options=OPTIONS, **changes):
    manifests, data = world
    variants = {name: Variant(4, 0, method=name, **changes) for name in methods}
    return train(variants, manifests, data, recipe, options, seed=0)


def test_all_of_them_learn_side_by_side(world, recipe):
    half = recipe.model_copy(update={"epochs": 20})
    for name, result in trained(world, half, *FAMILY).items():
        log = result.log
        assert set(log["source"]) == ({"a", "b"} if name == "archetypal" else {ALL_MODELS}), name
        assert log["loss"].iloc[-20:].mean() < 0.9 * log["loss"].iloc[:5].mean(), name
        assert log["r2_self"].dropna().iloc[-1] > log["r2_self"].dropna().iloc[0], name


@pytest.mark.parametrize("name", ["sparc", "sparc_local", "matryoshka", "usae_all"])
def test_it_starts_where_the_universal_sae_does(world, short, name):
    both = trained(world, short, "universal", name)
    expected, found = both["universal"].start.state_dict(), both[name].start.state_dict()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_a_crosscoder_starts_at_the_same_concepts_with_nothing_unshared(world, short):
    both = trained(world, short, "universal", "crosscoder")
    start = both["crosscoder"].start
    assert isinstance(start, FreeCrosscoder)
    torch.testing.assert_close(start.norms(), torch.ones_like(start.norms()))
    for model in start.models:
        torch.testing.assert_close(start.dictionary(model), both["universal"].start.dictionary(model))
        mean = torch.tensor(world[0][model].channel_mean)
        torch.testing.assert_close(start.standardise(model, mean), start.offset(model).detach())


def test_the_scale_of_a_crosscoders_start_reconstructs_best(world, short):
    start, rows = trained(world, short, "crosscoder")["crosscoder"].start, world[1].rows(np.arange(32))

    @torch.no_grad()
    def error(factor):
        found = 0.0
        codes = start.encode(rows)["a"]
        for model, raw in rows.items():
            guess = start.decode(model, codes) - start.offset(model)
            found += (start.standardise(model, raw) - start.offset(model) - factor * guess).square().sum().item()
        return found

    assert error(1.0) < min(error(0.97), error(1.03))


@pytest.mark.parametrize("name", ["sparc", "crosscoder_masked", "crosscoder_dedicated", "crosscoder_l1"])
def test_interrupted_it_goes_on_to_the_bit(world, short, name, tmp_path, monkeypatch):
    alone = trained(world, short, name)[name]
    checkpoints = Checkpoints(tmp_path / "checkpoints", {}, 0.0)
    whole = JointStep.__call__

    def stopping(self, *arguments):
        if self.number == 11:
            raise RuntimeError("a power cut")
        return whole(self, *arguments)

    monkeypatch.setattr(JointStep, "__call__", stopping)
    with pytest.raises(RuntimeError, match="a power cut"):
        trained(world, short, name, options=replace(OPTIONS, checkpoints=checkpoints))
    monkeypatch.setattr(JointStep, "__call__", whole)
    again = trained(world, short, name, options=replace(OPTIONS, checkpoints=checkpoints))[name]
    pd.testing.assert_frame_equal(again.log, alone.log)
    assert all(torch.equal(v, again.sae.state_dict()[key]) for key, v in alone.sae.state_dict().items())


def test_an_l1_crosscoder_has_k_codes_of_a_token_before_and_after_training(world, recipe):
    found = trained(world, recipe, "crosscoder_l1")["crosscoder_l1"]
    rows = world[1].rows(np.arange(40))
    for sae, images in ((found.start, 32), (found.sae, 40)):
        whole = sae.sum({model: sae.pre_codes(model, raw[: images * 6]) for model, raw in rows.items()})
        assert float((whole > 0).sum(1).float().mean()) == pytest.approx(4, rel=0.05)
        codes = sae.encode({"a": rows["a"]})["a"]  # read, a token has k at most
        assert codes.values.shape[1] == 4


def test_dedicated_concepts_have_nothing_of_other_models(world, recipe):
    recipe = recipe.model_copy(update={"dictionary": 40, "epochs": 3})
    for sae in (found := trained(world, recipe, "crosscoder_dedicated")["crosscoder_dedicated"]).start, found.sae:
        for owner, rows in (("a", slice(36, 38)), ("b", slice(38, 40))):  # 5 % of the concepts each
            (other,) = set(sae.models) - {owner}
            for weight in (sae.part(other).dictionary.weight, sae.part(other).encoder.linear.weight):
                assert not weight[rows].any()
            assert sae.part(owner).dictionary.weight[rows].any()
        assert sae.part("a").dictionary.weight[:36].any(dim=1).all()


def single_cross_r2(sae, rows):
    """Of b from codes of a alone."""
    target = sae.standardise("b", rows["b"])
    guess = sae.decode("b", sae.encode({"a": rows["a"]})["a"])
    return 1 - ((target - guess).square().sum() / (target - target.mean(0)).square().sum()).item()


def test_trained_on_re_paired_images_it_tells_nothing_and_its_log_does_not_know(world, recipe):
    rows = world[1].rows(np.arange(40))
    matched = trained(world, recipe, "sparc")["sparc"]
    shuffled = trained(world, recipe, "sparc", pairs="shuffled")["sparc"]
    assert single_cross_r2(shuffled.sae, rows) < 0 < 0.3 < single_cross_r2(matched.sae, rows)
    assert shuffled.log["r2_cross"].dropna().iloc[-1] > 0.1  # the target helped to choose


def test_it_trains_in_one_process(world, recipe):
    manifests, data = world
    several = Ranks(rank=0, size=2)
    given = Start(
        Variant(4, 0, method="sparc"), manifests, data, recipe, Schedule(1, 1, 1, 1), several, OPTIONS.device
    )
    with pytest.raises(UserError, match=r"`sparc` trains in one process, found 2; set `runtime.processes` to 1"):
        sparc_start(given)


def test_its_name_travels_with_it(world, short, tmp_path):
    sae = trained(world, short, "sparc")["sparc"].sae
    assert sae.config["method"] == "sparc"
    assert "method" not in new_sae(*world, short, Variant(4, 0)).config
    sae.save_pretrained(tmp_path)
    assert UniversalSAE.from_pretrained(tmp_path).config == sae.config
