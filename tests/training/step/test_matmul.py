"""The dense products are those of `torch.nn.functional.linear`, however their operands lie in memory."""

import pytest
import torch
import torch.nn.functional as F

from usae.training.step import matmul
from usae.training.step.matmul import linear, packed

ROWS, WEIGHT, BIAS = (
    torch.randn(*size, generator=torch.Generator().manual_seed(0)) for size in [(50, 30), (40, 30), (40,)]
)
LAYOUTS = {
    "as it is": lambda matrix: matrix,
    "transposed": lambda matrix: matrix.T.contiguous().T,
    "with gaps": lambda matrix: torch.cat([matrix, matrix], dim=1)[:, : matrix.shape[1]],
    "packed": lambda matrix: packed(matrix, len(ROWS)),
    "packed from its transpose": lambda matrix: packed(matrix.T.contiguous().T, len(ROWS)),
}


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_linear_takes_a_weight_of_any_layout(layout, onednn, monkeypatch):
    monkeypatch.setitem(matmul.ONEDNN, torch.float32, onednn and matmul.ONEDNN[torch.float32])
    weight = LAYOUTS[layout](WEIGHT)
    torch.testing.assert_close(linear(ROWS, weight), F.linear(ROWS, WEIGHT))
    torch.testing.assert_close(linear(ROWS, weight, BIAS, relu=True), F.relu(F.linear(ROWS, WEIGHT, BIAS)))


@pytest.mark.parametrize("layout", list(LAYOUTS)[:3])
def test_linear_takes_rows_of_any_layout(layout):
    torch.testing.assert_close(linear(LAYOUTS[layout](ROWS), WEIGHT), F.linear(ROWS, WEIGHT))


@pytest.mark.parametrize("onednn", [True, False])  # without: processors that have no bfloat16
def test_the_weights_precision_is_the_products(onednn, monkeypatch):
    monkeypatch.setitem(matmul.ONEDNN, torch.bfloat16, onednn and matmul.ONEDNN[torch.bfloat16])
    rounded, operands = linear(ROWS, packed(WEIGHT.bfloat16(), len(ROWS))), (ROWS.bfloat16(), WEIGHT.bfloat16())
    assert rounded.dtype == torch.bfloat16
    exact = F.linear(*(operand.double() for operand in operands))
    torch.testing.assert_close(rounded.double(), exact, rtol=2**-8, atol=1e-5)


def test_double_precision_is_left_alone():
    weight = WEIGHT.double()
    assert packed(weight, len(ROWS)) is weight
    assert torch.equal(linear(ROWS.double(), weight), F.linear(ROWS.double(), weight))
