"""Dense products of the training step: rows times a weight [out, in], as `torch.nn.functional.linear`.

On a CPU they go to oneDNN instead of MKL, which is faster on the machine of benchmarks/README.md. The weight's
precision is the product's (sums are float32 either way): a bfloat16 weight makes a rounded, cheaper product.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_HERE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
ONEDNN = {
    torch.float32: _HERE,
    torch.bfloat16: _HERE and torch.ops.mkldnn._is_mkldnn_bf16_supported(),  # by the processor
}


def linear(
    rows: Float[Tensor, "n i"],
    weight: Float[Tensor, "o i"],
    bias: Float[Tensor, " o"] | None = None,
    relu: bool = False,
) -> Float[Tensor, "n o"]:
    """rows @ weight.T + bias, or what of it is positive; of the weight's type, and without gradients."""
    rows = rows.to(weight.dtype)
    if _by_onednn(weight):
        after = "relu" if relu else "none"
        fused: Tensor = torch.ops.mkldnn._linear_pointwise(_dense(rows), _dense(weight), bias, after, [], "")
        return fused
    product = F.linear(rows, weight, bias)
    return product.relu_() if relu else product


def packed(weight: Float[Tensor, "o i"], rows: int) -> Float[Tensor, "o i"]:
    """The weight as many products with so many rows want it in memory; itself where that is all the same."""
    if not _by_onednn(weight):
        return weight
    laid_out: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
    return laid_out


def _by_onednn(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and ONEDNN.get(weight.dtype, False)


def _dense(matrix: Tensor) -> Tensor:
    """Without gaps between rows or columns: oneDNN has no fast way for others."""
    if matrix.is_mkldnn or matrix.is_contiguous() or matrix.T.is_contiguous():
        return matrix
    return matrix.contiguous()
