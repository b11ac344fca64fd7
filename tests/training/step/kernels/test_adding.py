"""Sums by concept, however unevenly the concepts are chosen, beside dense products in float64."""

import pytest
import torch

from usae.sae.sparse import SparseCodes


@pytest.fixture
def adding(device):
    from usae.training.step.kernels import adding

    return adding


def codes(tokens, k, concepts, dtype=torch.float64):
    """Concept 0 is chosen by every token, the last concept by none."""
    generator = torch.Generator().manual_seed(0)
    others = torch.rand(tokens, concepts - 2, generator=generator).argsort()[:, : k - 1] + 1
    indices = torch.cat([torch.zeros(tokens, 1, dtype=torch.long), others], 1)
    return SparseCodes(indices, torch.rand(tokens, k, generator=generator).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("tokens", "k", "concepts", "width"), [(1, 1, 2, 1), (70, 3, 9, 20), (200, 2, 5, 300)])
def test_as_dense_products(adding, device, tokens, k, concepts, width, dtype):
    sparse, bound = codes(tokens, k, concepts, dtype), 5e-7 if dtype == torch.float32 else 1e-14
    rows = torch.randn(tokens, width, generator=torch.Generator().manual_seed(1)).to(dtype)
    groups = adding.Grouping.of(sparse.indices.to(device), concepts)
    dense = sparse.dense(concepts).double()
    for found, expected in (
        (groups.sum(sparse.values.to(device), rows.to(device)), dense.T @ rows.double()),
        (groups.sum_values(sparse.values.to(device)), dense.sum(0)),
    ):
        assert found.dtype == dtype
        assert (found.cpu().double() - expected).norm() <= bound * expected.norm()
        assert not found[-1].any()


@pytest.mark.parametrize("piece", [1, 3, 64])
def test_pieces_of_any_length(adding, device, monkeypatch, piece):
    """Every entry is in one piece, and there are programs for all pieces."""
    monkeypatch.setattr(adding, "PIECE", piece)
    sparse = codes(17, 3, 6)
    groups = adding.Grouping.of(sparse.indices.to(device), 6)
    assert groups.pieces[-1] <= len(groups.owners)
    found = groups.sum_values(sparse.values.to(device)).cpu()
    torch.testing.assert_close(found, sparse.dense(6).sum(0), rtol=1e-14, atol=0)


def test_many_concepts(adding, device):
    """More than 16 bits hold."""
    indices = torch.tensor([[40_000, 3], [32_768, 40_000]], device=device)
    groups = adding.Grouping.of(indices, 40_001)
    assert groups.order.tolist() == [1, 2, 0, 3]
    assert groups.starts[[0, 3, 4, 32_768, 32_769, 40_000, 40_001]].tolist() == [0, 0, 1, 1, 2, 2, 4]


def test_the_order_of_the_sum_is_fixed(adding, device):
    sparse, rows = codes(300, 2, 5, torch.float32), torch.randn(300, 4)
    groups = adding.Grouping.of(sparse.indices.to(device), 5)
    once, again = (groups.sum(sparse.values.to(device), rows.to(device)) for _ in range(2))
    assert torch.equal(once, again)
