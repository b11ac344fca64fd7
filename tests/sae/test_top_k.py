"""The largest values of a row are those that sorting finds."""

import pytest
import torch

from usae.sae.top_k import GROUP, WORTH, keep_largest, largest


def values(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [GROUP * WORTH, GROUP * GROUP * WORTH, GROUP * WORTH + 1, 20])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_as_sorting(size, count):
    rows = values(40, size)
    found = rows.gather(1, largest(rows, count)).sort(descending=True).values
    assert torch.equal(found, rows.sort(descending=True).values[:, :count])


def test_any_leading_dimensions():
    rows = values(2, 3, GROUP * WORTH)
    assert torch.equal(largest(rows, 1)[..., 0], rows.argmax(-1))


def test_neighbours_and_members_of_one_group_are_all_found():
    rows = torch.zeros(2, GROUP * WORTH * 8)
    rows[0, :8] = 1  # in eight groups
    rows[1, 5 :: WORTH * 8] = 1  # one group
    assert torch.equal(largest(rows, 8).sort().values[0], torch.arange(8))
    assert torch.equal(largest(rows, 8).sort().values[1], torch.arange(5, WORTH * 64, WORTH * 8))


def test_equal_values_are_found_once_each():
    found = largest(torch.ones(3, GROUP * WORTH * 4), 4)
    assert all(len(set(row)) == 4 for row in found.tolist())


@pytest.mark.parametrize("count", [1, 8, 100, 190, 192, 500])
def test_keeps_exactly_the_largest_positive_codes(count):
    codes = (values(50, 192) + 0.5).relu()
    best = codes.topk(min(count, 192))
    expected = torch.zeros_like(codes).scatter(1, best.indices, best.values)
    assert torch.equal(keep_largest(codes, count), expected)


def test_rows_with_few_positive_codes_stay_whole():
    codes = values(50, 192).relu()
    assert torch.equal(keep_largest(codes.clone(), 150), codes)


def test_of_equal_codes_as_many_as_asked_for():
    assert keep_largest(torch.ones(4, 192), 7).sum(1).tolist() == [7] * 4
