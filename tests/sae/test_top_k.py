"""The largest values of a row are those that sorting finds."""

import pytest
import torch

from usae.sae.top_k import FEW, GROUP, MOST, keep_largest, largest


def values(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [20, FEW, 100, MOST, MOST + 1, MOST + GROUP, 512, 2048, 6144])
@pytest.mark.parametrize("count", [1, 3, 8, 19, 32, 64, 128, 200])
def test_as_sorting(size, count):
    count = min(size, count)
    rows = values(40, size)
    found = largest(rows, count)
    assert found.shape == (40, count)
    assert torch.equal(
        rows.gather(1, found).sort(descending=True).values, rows.sort(descending=True).values[:, :count]
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types(dtype):
    rows = values(5, MOST).to(dtype)
    found = rows.gather(1, largest(rows, 7)).sort(descending=True).values
    assert torch.equal(found, rows.sort(descending=True).values[:, :7])


def test_any_leading_dimensions_and_strides():
    rows = values(MOST, 2, 3).permute(1, 2, 0)
    assert torch.equal(largest(rows, 1)[..., 0], rows.argmax(-1))


@pytest.mark.parametrize("size", [MOST, 2048])
def test_neighbours_and_members_of_one_group_are_all_found(size):
    rows = torch.zeros(2, size)
    rows[0, :8] = 1  # in eight groups
    rows[1, 5 :: size // GROUP] = 1  # one group
    assert torch.equal(largest(rows, 8).sort().values[0], torch.arange(8))
    assert torch.equal(largest(rows, 8).sort().values[1], torch.arange(5, size, size // GROUP))


@pytest.mark.parametrize("value", [1.0, 0.0, -0.0, -1.0, 1e-45, torch.inf, -torch.inf])
@pytest.mark.parametrize("size", [MOST, 2048])
def test_equal_values_are_found_once_each(value, size):
    found = largest(torch.full((3, size), value), 4)
    assert all(len(set(row)) == 4 for row in found.tolist())


@pytest.mark.parametrize("size", [MOST, 2048])
def test_least_and_greatest_numbers(size):
    rows = torch.full((1, size), -torch.inf)
    best = {3: torch.inf, 40: 3e38, 41: 1e-45, 60: 0.0, size - 1: -3e38}
    rows[0, list(best)] = torch.tensor(list(best.values()))
    assert [set(largest(rows, count)[0].tolist()) for count in range(1, 6)] == [
        set(list(best)[:count]) for count in range(1, 6)
    ]


@pytest.mark.parametrize("size", [20, MOST, 2048])
def test_what_is_no_number_is_the_largest(size):
    """So that a run that has diverged shows it."""
    rows = values(4, size)
    rows[2, 7] = torch.nan
    assert (largest(rows, 3)[2] == 7).sum() == 1
    assert not (largest(rows, 3)[[0, 1, 3]] != largest(rows.nan_to_num(), 3)[[0, 1, 3]]).any()


def test_of_equal_values_the_last_ones():
    """The same on every processor."""
    assert largest(torch.ones(2, MOST), 3).sort().values.tolist() == [[MOST - 3, MOST - 2, MOST - 1]] * 2


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
