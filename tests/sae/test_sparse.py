import pytest
import torch

import usae
from usae.sae import sparse
from usae.sae.sparse import SparseCodes, transposed_product

CODES = SparseCodes(
    torch.tensor([[[0, 2], [2, 1]], [[1, 0], [3, 2]]]),
    torch.tensor([[[1.0, 0.5], [3.0, 0.0]], [[2.0, 1.0], [0.0, 0.0]]]),
)


def test_codes_say_what_they_are():
    assert repr(CODES) == "SparseCodes(2 x 2 tokens, 2 codes each)"
    assert (len(CODES), CODES.shape, CODES[1].shape, repr(CODES[1, 0])) == (
        2,
        (2, 2, 2),
        (2, 2),
        "SparseCodes(one token, 2 codes)",
    )


def test_the_strongest_concepts_by_the_sum_of_their_codes():
    assert CODES.top(2) == {2: 3.5, 0: 2.0}
    assert CODES.top(9) == {2: 3.5, 0: 2.0, 1: 2.0}
    assert CODES[1].top(9) == {1: 2.0, 0: 1.0}
    assert SparseCodes(CODES.indices[:0], CODES.values[:0]).top(3) == {}


def test_other_libraries_get_the_same_numbers():
    dense = CODES.dense(4)
    assert torch.equal(CODES.to_torch(4).to_dense(), dense)
    array = CODES.to_scipy(4)
    assert array.nnz == 5
    assert (array.toarray() == dense.reshape(4, 4).numpy()).all()


def test_names_are_offered_where_one_presses_tab():
    assert dir(usae) == usae.__all__
    assert all(getattr(usae, name) for name in dir(usae))


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
