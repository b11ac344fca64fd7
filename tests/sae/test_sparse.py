import pytest
import torch

from usae.sae import sparse
from usae.sae.sparse import transposed_product


@pytest.mark.parametrize("radix", [1 << 15, 0])
def test_rows_are_added_in_their_order(monkeypatch, radix):
    """Or a run would not end in the same bits: float32 holds 1 beside 1e8 only once that is gone."""
    monkeypatch.setattr(sparse, "RADIX", radix)
    rows = torch.tensor([1e8, -1e8, 1.0]).repeat(400)[:, None]
    indices = torch.stack([torch.zeros(1200, dtype=torch.long), torch.arange(1200) % 2 + 1], 1)
    product = transposed_product(indices, torch.ones(1200, 2), rows, 4)
    one_after_another = torch.zeros(4, 1)
    for row, chosen in zip(rows, indices, strict=True):
        one_after_another[chosen] += row
    assert torch.equal(product, one_after_another)
    assert product[3] == 0
