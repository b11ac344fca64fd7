"""SPARC as its authors train it: by hand."""

import pandas as pd
import pytest
import torch

from usae.common.variant import Variant
from usae.evidence.estimators import load_estimator
from usae.methods import sparc_published
from usae.methods.sparc_published import (
    DEAD_AFTER,
    PublishedSparc,
    PublishedSparcMethod,
    counted,
    nmse,
    total_loss,
)
from usae.training.loop.loop import RunOptions, train
from usae.training.loop.method import ALL_MODELS

OPTIONS = RunOptions(torch.device("cpu"))


def test_every_token_counts_alike():
    truth, guess = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[3.0, 0.0], [0.0, 0.0]])
    assert nmse(guess, truth).item() == pytest.approx(0.82)  # not 17 / 26


@pytest.mark.parametrize(("cross", "total"), [(1.0, 1.0), (0.5, 0.65)])
def test_the_loss_is_a_mean_of_self_and_one_of_cross_errors(cross, total):
    errors = torch.tensor([[0.2, 0.6], [0.8, 0.4]])
    assert total_loss(errors, cross).item() == pytest.approx(total)


def test_a_code_of_a_thousandth_is_silent_and_one_above_it_is_not():
    silent, chosen = torch.full((1, 3), 7), torch.tensor([[0, 1], [1, 2]])
    found = counted(silent, chosen, torch.tensor([[[1e-3, 2e-3], [0.0, 1e-3]]]))
    assert found.tolist() == [[8, 1, 8]]


def method_of(concepts=6, k=2):
    torch.manual_seed(0)
    sae = PublishedSparc({"a": 4, "b": 5}, concepts, k, {"method": "sparc_published"})
    return PublishedSparcMethod(sae, 0), {"a": torch.randn(40, 4), "b": torch.randn(40, 5)}


@pytest.mark.parametrize(("steps", "dead"), [(DEAD_AFTER, False), (DEAD_AFTER + 1, True)])
def test_latents_die_after_a_thousand_silent_steps(steps, dead):
    method, rows = method_of()
    method.silent[0, 3] = steps
    logits = method._logits("a", rows["a"])
    chosen = logits.topk(2, dim=1).indices
    found = method._auxiliary(0, rows["a"], logits, chosen, logits.gather(1, chosen).relu())
    assert bool(found > 0) == dead


def test_the_auxiliary_term_is_of_dead_latents_and_what_is_left():
    method, rows = method_of()
    method.silent[0, [1, 4]] = DEAD_AFTER + 5
    with torch.no_grad():
        method.sae.part("a").dictionary.offset.normal_()
    logits = method._logits("a", rows["a"]).detach()
    chosen = torch.tensor([[0, 2]]).expand(40, 2)
    codes = logits.gather(1, chosen).relu()
    found = method._auxiliary(0, rows["a"], logits, chosen, codes)
    weight, offset = method.sae.part("a").dictionary.weight, method.sae.part("a").dictionary.offset
    alive = torch.zeros(40, 6).scatter(1, chosen, codes) @ weight + offset
    revived = (logits.relu() * torch.tensor([0, 1, 0, 0, 1, 0])) @ weight + offset
    torch.testing.assert_close(found, nmse(revived, rows["a"] - alive + offset))


def test_rows_have_unit_norm_and_no_gradient_along_them():
    method, _ = method_of()
    weight = method.sae.part("a").dictionary.weight
    weight.grad = torch.randn_like(weight)
    method._normalise()
    torch.testing.assert_close(weight.norm(dim=1), torch.ones(6))
    torch.testing.assert_close((weight.grad * weight).sum(1), torch.zeros(6), atol=1e-6, rtol=0)


def test_dead_encoders_are_drawn_anew_and_rows_stay():
    method, _ = method_of()
    method.silent[0, 2] = DEAD_AFTER + 1
    before = {name: value.clone() for name, value in method.sae.state_dict().items()}
    method._resample()
    moved = {name for name, value in method.sae.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"parts.a.encoder.linear.weight", "parts.a.encoder.linear.bias"}
    rows = method.sae.part("a").encoder.linear.weight
    assert rows[2].abs().max() < 0.06
    assert torch.equal(rows[[0, 1, 3, 4, 5]], before["parts.a.encoder.linear.weight"][[0, 1, 3, 4, 5]])
    assert method.silent[0, 2] == 0


def run(world, recipe, **changes):
    manifests, data = world
    variant = Variant(4, 0, method="sparc_published")
    changed = recipe.model_copy(update=changes)
    return train({"sparc_published": variant}, manifests, data, changed, OPTIONS, seed=0)["sparc_published"]


def test_it_learns_in_the_runs_loop_and_is_opened_as_it_was(world, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(sparc_published, "RATE", 3e-3)
    result = run(world, recipe)
    assert set(result.log["source"]) == {ALL_MODELS}
    assert result.log["loss"].iloc[-10:].mean() < 0.8 * result.log["loss"].iloc[:5].mean()
    result.sae.save_pretrained(tmp_path)
    again, rows = load_estimator(tmp_path), world[1].rows(torch.arange(5).numpy())
    assert isinstance(again, PublishedSparc)
    codes = again.encode({"a": rows["a"]})["a"]
    assert torch.equal(codes.values, result.sae.encode({"a": rows["a"]})["a"].values)
    for model in "ab":  # what is saved reconstructs as what was trained: units, offsets, unit of the codes
        truth = again.standardise(model, rows[model])
        guess = again.decode(model, again.encode({model: rows[model]})[model])
        r2 = 1 - (truth - guess).square().sum() / (truth - truth.mean(0)).square().sum()
        assert r2 > 0.3
        assert truth.norm(dim=1).mean().item() == pytest.approx(1, abs=0.1)


def test_the_same_seed_gives_the_same_bits(world, recipe):
    one, other = run(world, recipe, epochs=2), run(world, recipe, epochs=2)
    pd.testing.assert_frame_equal(one.log, other.log)
    assert all(torch.equal(v, other.sae.state_dict()[key]) for key, v in one.sae.state_dict().items())
