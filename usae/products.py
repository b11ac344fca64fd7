"""Dense products of the training step: rows times a weight [out, in], as `torch.nn.functional.linear`.

On a CPU in float32 they go to oneDNN instead of MKL, which is faster on the machine of benchmarks/README.md.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(
    rows: Float[Tensor, "n i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"] | None = None
) -> Float[Tensor, "n o"]:
    """rows @ weight.T + bias, without gradients."""
    if ONEDNN and rows.device.type == "cpu" and rows.dtype == torch.float32:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(_dense(rows), _dense(weight), bias, "none", [], "")
        return product
    return F.linear(rows, weight, bias)


def linear_in_bfloat16(rows: Float[Tensor, "n i"], weight: Float[Tensor, "o i"]) -> Float[Tensor, "n o"]:
    """The same of rounded operands, with float32 sums and a rounded result."""
    return F.linear(rows.bfloat16(), weight.bfloat16()).to(rows.dtype)


def _dense(matrix: Tensor) -> Tensor:
    """Without gaps between rows or columns: oneDNN has no fast way for others."""
    return matrix if matrix.is_contiguous() or matrix.T.is_contiguous() else matrix.contiguous()
