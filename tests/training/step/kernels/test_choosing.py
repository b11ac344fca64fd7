"""The kernel chooses what sorting chooses, and of equal values what a CPU does."""

import pytest
import torch

from usae.sae.sparse import top_k
from usae.sae.top_k import MOST


@pytest.fixture
def choosing(device):
    from usae.training.step.kernels import choosing

    return choosing


def values(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def same(choosing, device, rows, count):
    """The kernel's choice, compared with what torch chooses of ReLU of the rows."""
    found = choosing.top_k(rows.to(device), count)
    indices, chosen = found.indices.cpu(), found.values.cpu()
    codes = rows.relu()
    assert torch.equal(chosen.sort().values, codes.topk(count).values.sort().values)
    assert torch.equal(codes.gather(1, indices), chosen)
    assert (indices.diff() > 0).all()  # in the order of the columns, none twice
    assert torch.equal(choosing.keep_largest(rows.to(device), count).cpu(), found.dense(rows.shape[1]).cpu())
    return indices


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("columns", "count"), [(1, 1), (31, 31), (33, 5), (100, 7), (MOST, 32), (1500, 32)])
def test_as_sorting(choosing, device, columns, count, dtype):
    same(choosing, device, values(3, columns, dtype=dtype), count)


@pytest.mark.parametrize("count", [1, 4, 8])
def test_of_equal_values_those_that_a_cpu_chooses(choosing, device, count):
    """The last ones; also of zeros, where fewer than `count` are positive."""
    rows = values(4, 100).round()
    rows[1], rows[2], rows[3, 5:] = 0, -1, -0.0
    codes = rows.relu() + 0.0  # of the two zeros one
    assert torch.equal(same(choosing, device, rows, count), top_k(codes, count).indices.sort().values)


def test_equal_values_in_several_chunks(choosing, device):
    rows = torch.ones(1, 2500)
    rows[0, 7], rows[0, 2499] = 2, 0
    assert same(choosing, device, rows, 4).tolist() == [[7, 2496, 2497, 2498]]


def test_least_and_greatest_numbers(choosing, device):
    rows = torch.full((1, 70), -torch.inf)
    best = {3: torch.inf, 40: 3e38, 41: 1e-38, 60: 1e-45}
    rows[0, list(best)] = torch.tensor(list(best.values()))
    for count in range(1, 5):
        assert same(choosing, device, rows, count).tolist() == [sorted(list(best)[:count])]


def test_what_is_no_number_is_the_largest(choosing, device):
    """So that a run that has diverged shows it."""
    rows = values(2, 60)
    rows[0, 7], rows[1, 9] = torch.nan, -torch.tensor(torch.nan)
    found = choosing.top_k(rows.to(device), 3)
    places = found.values.isnan().nonzero()[:, 1]
    assert found.indices[[0, 1], places].tolist() == [7, 9]
    assert choosing.keep_largest(rows.to(device), 3).isnan().sum() == 2


def test_rows_with_gaps_between_them(choosing, device):
    wide = values(3, 90).to(device)
    assert torch.equal(
        choosing.top_k(wide[:, 20:60], 4).indices, choosing.top_k(wide[:, 20:60].clone(), 4).indices
    )


def test_rows_that_are_too_long_are_refused(choosing, device):
    with pytest.raises(ValueError, match="rows of 32769 concepts are longer than 32768"):
        choosing.top_k(torch.zeros(1, choosing.MOST_COLUMNS + 1, device=device), 3)


def test_more_than_a_row_has(choosing, device):
    rows = values(2, 40)
    assert torch.equal(choosing.keep_largest(rows.to(device), 50).cpu(), rows.relu())
