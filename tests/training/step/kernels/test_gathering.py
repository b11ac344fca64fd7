"""k rows of a dictionary for each token, forward and backward, beside dense products in float64."""

import pytest
import torch

from usae.sae.sparse import SparseCodes

BOUNDS = {torch.float64: 1e-15, torch.float32: 5e-7, torch.bfloat16: 5e-7}  # rows are rounded before both


@pytest.fixture
def gathering(device):
    from usae.training.step.kernels import gathering

    return gathering


def near(found, expected, dtype):
    error = (found.cpu().double() - expected).norm() / expected.norm()
    assert error < BOUNDS[dtype], error


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("tokens", "k", "concepts", "width"), [(1, 1, 3, 1), (5, 7, 20, 37), (3, 8, 9, 300)])
def test_as_dense_products(gathering, device, tokens, k, concepts, width, dtype):
    generator = torch.Generator().manual_seed(0)
    indices = torch.rand(tokens, concepts, generator=generator).argsort()[:, :k]
    values = torch.rand(tokens, k, generator=generator).to(torch.promote_types(dtype, torch.float32))
    if k > 1:
        values[0, 0] = 0  # an unused slot
    dictionary = torch.randn(concepts, width, generator=generator).to(dtype)
    slope = torch.randn(tokens, width, generator=generator).to(values.dtype)
    own = values.to(device).requires_grad_()
    decoded = gathering.decoding(indices.to(device), own, dictionary.to(device))
    assert decoded.dtype == values.dtype
    dense = SparseCodes(indices, values).dense(concepts).double()
    near(decoded.detach(), dense @ dictionary.double(), dtype)
    (gradient,) = torch.autograd.grad(decoded, own, slope.to(device))
    near(gradient, (slope.double() @ dictionary.double().T).gather(1, indices), dtype)


def test_part_of_the_codes_and_of_the_columns(gathering, device):
    indices = torch.tensor([[0, 3, 1], [2, 2, 3]], device=device)
    values, dictionary = torch.ones(2, 3, device=device), torch.randn(4, 10, device=device)
    found = gathering.decode(indices[:, 1:], values[:, 1:], dictionary[:, 2:7])
    expected = gathering.decode(indices[:, 1:].clone(), values[:, 1:].clone(), dictionary[:, 2:7].clone())
    assert torch.equal(found, expected)
