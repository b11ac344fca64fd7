import torch

from usae.sae.universal import UniversalSAE
from usae.training.start.calibration import point


def test_directions_of_zeros_become_some_direction():
    """A step divides by the norm: zeros would be NaN after it."""
    sae = UniversalSAE({"a": 4}, 3, 2)
    directions = torch.tensor([[0.0, 2.0, 0.0, 0.0], [0.0] * 4, [1.0, 1.0, 1.0, 1.0]])
    rows = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    point(sae, "a", directions, directions, rows)
    for weight in (sae.part("a").dictionary.weight, sae.part("a").encoder.linear.weight):
        torch.testing.assert_close(weight.detach().norm(dim=1), torch.ones(3))
        assert weight[0].tolist() == [0.0, 1.0, 0.0, 0.0]
    assert sae.part("a").encoder.norm.weight.isfinite().all()
