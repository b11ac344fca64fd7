"""R2 from several models at once."""

import numpy as np
import pytest
import torch

from usae.methods.comparison.together import r2_together, together
from usae.methods.joint.sae import Crosscoder, FreeCrosscoder, SparcSAE
from usae.sae.universal import UniversalSAE

WIDTHS = {"a": 5, "b": 4, "c": 6}


@pytest.fixture
def stores(make_store):
    rng = np.random.default_rng(0)
    return {
        model: make_store(model, rng.normal(size=(10, 4, d)).astype(np.float32)) for model, d in WIDTHS.items()
    }


def sae_of(kind):
    torch.manual_seed(0)
    return kind(WIDTHS, 12, 3).eval()


@pytest.mark.parametrize("kind", [UniversalSAE, SparcSAE, Crosscoder, FreeCrosscoder])
def test_others_do_not_look_at_the_target_and_joint_does(kind, stores, make_store):
    before = r2_together(sae_of(kind), stores)
    assert set(before) == {(mode, model) for mode in ("others", "joint") for model in WIDTHS}
    raw = {m: torch.from_numpy(np.asarray(s.take(range(10)))).flatten(0, 1) for m, s in stores.items()}
    sae = sae_of(kind)
    pre = {model: sae.pre_codes(model, rows) for model, rows in raw.items()}
    for target in WIDTHS:
        truth = sae.standardise(target, raw[target])
        for mode, seen in (("joint", pre), ("others", {m: own for m, own in pre.items() if m != target})):
            left = truth - sae.decode(target, together(sae, seen, target))
            expected = 1 - left.square().sum() / (truth - truth.mean(0)).square().sum()
            assert before[mode, target] == pytest.approx(expected.item(), abs=1e-5)


def test_without_a_way_of_its_own_the_mean_of_the_pre_codes_chooses(stores):
    sae = sae_of(UniversalSAE)
    pre = {model: torch.randn(7, 12) for model in WIDTHS}
    found = together(sae, pre, "a")
    expected = torch.stack(list(pre.values())).mean(0).relu().topk(3, dim=1)
    torch.testing.assert_close(found.values.sort().values, expected.values.sort().values)


def test_of_one_model_there_is_nothing_together(stores):
    sae = UniversalSAE({"a": 5}, 12, 3).eval()
    assert r2_together(sae, {"a": stores["a"]}) == {}
