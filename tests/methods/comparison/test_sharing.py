"""Latent scaling tells a concept that is not there from one whose decoder was pushed to nothing."""

import numpy as np
import pytest
import torch

from usae.methods.comparison.sharing import REPAIRINGS, Scaling, sharing_frame
from usae.methods.joint.sae import FreeCrosscoder
from usae.sae.sparse import SparseCodes

WIDTHS = {"a": 4, "b": 4}


def codes(values):
    return SparseCodes(torch.zeros(len(values), 1, dtype=torch.int64), torch.tensor(values)[:, None])


def test_the_best_direction_by_hand():
    scaling = Scaling(1)
    scaling.count(codes([1.0, 2.0]), [torch.tensor([1, 0])] * REPAIRINGS)
    assert scaling.moved.tolist() == [[4.0]] * REPAIRINGS
    scaling.add(("a", "r"), codes([1.0, 2.0]), torch.tensor([[1.0, 0.0], [2.0, 0.0]]))
    scaling.add(("b", "r"), codes([1.0, 2.0]), torch.tensor([[0.5, 0.0], [1.0, 0.0]]))
    one, half = (float(scaling.energy((model, "r"))) for model in ("a", "b"))
    assert one == pytest.approx(5)  # |f|^2 |v|^2 with v = (1, 0)
    assert (half / one) ** 0.5 == pytest.approx(0.5)
    assert float(scaling.energy(("b", "r"), torch.tensor([[0.5, 0.0]]))) == pytest.approx(5)


@pytest.fixture
def world(make_store):
    """One concept on a third of the tokens, in both models along the first channel; and two others."""
    rng = np.random.default_rng(0)
    cause = (rng.random((60, 9)) < 0.3) * (1 + rng.random((60, 9)))
    rows = {}
    for model in WIDTHS:
        noise = 0.01 * rng.normal(size=(60, 9, 4))
        rows[model] = (noise + cause[..., None] * np.eye(4)[0]).astype(np.float32)
    return {model: make_store(model, own, 20) for model, own in rows.items()}


def crosscoder(decoders):
    """Latents 0 and 1 read the concept from a. decoders: model -> latent -> factor of channel 0."""
    sae = FreeCrosscoder(WIDTHS, 3, 2).eval()
    with torch.no_grad():
        for model, factors in decoders.items():
            part = sae.part(model)
            part.std.fill_(1 - 1e-5)
            part.encoder.linear.bias.zero_()
            part.encoder.linear.weight.zero_()
            part.dictionary.weight.zero_()
            for latent, factor in enumerate(factors):
                part.dictionary.weight[latent, 0] = factor
        sae.part("a").encoder.linear.weight[:2, 0] = 1
    return sae


def ratios(sae, stores):
    """(relative norm, eps, r) of latent 0 in model b."""
    frame = sharing_frame(sae, stores, 0.1, 0).set_index(["concept_id", "model"])
    return tuple(frame.loc[(0, "b"), ["relative_norm", "nu_eps", "nu_r"]])


def test_a_concept_that_is_there_though_its_decoder_is_not_is_shrinkage(world):
    norm, eps, r = ratios(crosscoder({"a": (1.0, 0.0, 0.0), "b": (0.0, 0.0, 0.0)}), world)
    assert norm == 0
    assert eps == pytest.approx(1, abs=0.02)
    assert r == 0


def test_a_concept_that_another_latent_writes_is_decoupled(world):
    norm, eps, r = ratios(crosscoder({"a": (1.0, 0.0, 0.0), "b": (0.0, 1.0, 0.0)}), world)
    assert norm == 0
    assert eps < 0.1
    assert r == pytest.approx(1, abs=0.02)


def test_a_concept_that_both_share(world):
    norm, eps, r = ratios(crosscoder({"a": (1.0, 0.0, 0.0), "b": (1.0, 0.0, 0.0)}), world)
    assert norm == pytest.approx(0.5)
    assert eps == pytest.approx(1, abs=0.02)
    assert r == pytest.approx(1, abs=0.02)


def test_of_noise_nothing_is_left(make_store):
    rng = np.random.default_rng(1)
    stores = {model: make_store(model, rng.normal(size=(60, 9, 4)).astype(np.float32), 20) for model in WIDTHS}
    _, eps, r = ratios(crosscoder({"a": (1.0, 0.0, 0.0), "b": (0.0, 0.0, 0.0)}), stores)
    assert eps < 0.2
    assert r == 0


def test_fires_are_of_one_model_alone(world):
    frame = sharing_frame(crosscoder({"a": (1.0, 0.0, 0.0), "b": (1.0, 0.0, 0.0)}), world, 0.1, 0)
    fires = frame.set_index(["concept_id", "model"])["fires"]
    tokens = np.concatenate([np.asarray(world["a"].take(range(60)))[..., 0].ravel()])
    assert fires[0, "a"] == (tokens > 0.1).sum()
    assert fires[0, "b"] == 0  # nothing is read from b
