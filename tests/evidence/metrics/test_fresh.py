import numpy as np
import torch

from usae.evidence.metrics.fresh import fresh_sae
from usae.sae.universal import UniversalSAE


def test_a_fresh_sae_is_normalised_and_follows_the_seed(make_store):
    rng, widths = np.random.default_rng(0), {"a": 5, "b": 6}
    activations = {model: rng.normal(size=(240, 4, width)).astype("float16") for model, width in widths.items()}
    stores = {model: make_store(model, rows, 240) for model, rows in activations.items()}
    sae = UniversalSAE(widths, 8, 3).eval()
    sae.part("a").std.fill_(2.0)
    fresh, again, other = (fresh_sae(sae, stores, seed) for seed in (0, 0, 1))
    rows = torch.from_numpy(activations["a"][:64].reshape(-1, 5).astype(np.float32))
    pre = fresh.pre_codes("a", rows)
    np.testing.assert_allclose(pre.mean(0).detach(), 0, atol=1e-5)
    np.testing.assert_allclose(pre.std(0).detach(), 1, atol=1e-2)
    assert torch.equal(fresh.part("a").std, sae.part("a").std)
    assert torch.equal(again.pre_codes("a", rows), pre)
    assert not torch.equal(other.pre_codes("a", rows), pre)
