import numpy as np
import torch

from usae.evidence.metrics.dictionaries.directions import centred_directions, side_by_side
from usae.sae.universal import UniversalSAE


def test_directions_have_unit_length_and_nothing_of_the_mean_token():
    torch.manual_seed(0)
    sae = UniversalSAE({"a": 6, "b": 9}, 20, 3).eval()
    for model in sae.models:
        sae.part(model).mean.fill_(0.5)
        sae.part(model).gain.fill_(3.0)
    rng = np.random.default_rng(0)
    means = {"a": rng.normal(size=6), "b": rng.normal(size=9)}
    for model, mean in means.items():
        rows = centred_directions(sae, model, mean)
        token = sae.standardise(model, torch.from_numpy(mean).float()).numpy()
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1)
        np.testing.assert_allclose(rows @ token, 0, atol=1e-6)
        dictionary = sae.dictionary(model).detach().numpy()
        assert (abs(dictionary @ token) > 1e-3).any()
        assert ((rows * dictionary).sum(axis=1) > 0).all()
    both = side_by_side(sae, means)
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1)
    np.testing.assert_allclose(both[:, :6], centred_directions(sae, "a", means["a"]) / 2**0.5)
