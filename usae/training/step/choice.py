"""How a training run computes its products with sparse codes: by Triton's kernels on a GPU, elsewhere by torch.

Before a run takes the kernels, they compute the products of one real batch, and torch does. Codes have to be the
same to the last bit; sums are the same up to their order.
"""

import logging
import math
from collections.abc import Callable, Sequence
from subprocess import SubprocessError

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from usae.common.params import Kernels
from usae.sae.sparse import SparseCodes
from usae.sae.universal import UniversalSAE
from usae.training.step.products import SparseProducts
from usae.training.step.reference import Precision

BOUNDS: dict[Precision, float] = {"float32": 1e-5, "mixed": 1e-2}  # of relative distances; torch adds up rows of
# bfloat16 to a sum in bfloat16, the kernels to one in float32

Tokens = Sequence[Float[Tensor, "n _"]]

log = logging.getLogger("usae")


def products_for(
    sae: UniversalSAE, batch: Callable[[], Tokens], kernels: Kernels, precision: Precision
) -> SparseProducts:
    """The products of a run. batch: gives the standardised tokens of each model, and is asked on a GPU alone."""
    if sae.device.type != "cuda" or kernels == "torch":
        return SparseProducts()
    found, fault = _kernels(sae, batch(), precision)
    if fault:
        log.warning("Products with sparse codes are computed by torch: %s.", fault)
    return found


def _kernels(sae: UniversalSAE, tokens: Tokens, precision: Precision) -> tuple[SparseProducts, str]:
    """The kernels; or torch, and why."""
    try:
        from triton.errors import TritonError

        from usae.training.step.kernel_products import KernelProducts
    except ImportError as error:
        return SparseProducts(), f"Triton is not here ({error})"
    try:
        distance = disagreement(KernelProducts(), sae, tokens, precision)
    except (TritonError, SubprocessError, OSError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        return SparseProducts(), f"Triton's kernels do not run here ({type(error).__name__}: {error})"
    if not distance <= BOUNDS[precision]:
        return SparseProducts(), f"Triton's kernels are {distance:.1e} away from torch on the first batch"
    log.info("Products with sparse codes: Triton's kernels, %.1e away from torch on the first batch", distance)
    return KernelProducts(), ""


@torch.no_grad()
def disagreement(kernels: SparseProducts, sae: UniversalSAE, tokens: Tokens, precision: Precision) -> float:
    """The largest relative distance between a product by `kernels` and by torch; inf where codes differ.

    tokens: standardised, of each model.
    """
    part, usual = sae.part(sae.models[0]), SparseProducts()
    norm, linear = part.encoder.norm, part.encoder.linear
    pre = F.batch_norm(linear(tokens[0]), None, None, norm.weight, norm.bias, training=True)  # (n, c)
    codes = F.relu(pre)
    given = codes.clone() if kernels.needs_relu else pre
    chosen = kernels.top_k(sae.levels, given)
    count = sae.k + sae.concepts // 2  # of `aux: multi_topk`
    pairs = [
        (_sorted(chosen.values), _sorted(usual.top_k(sae.levels, codes).values)),
        (chosen.values, codes.gather(1, chosen.indices)),
        (_sorted(kernels.keep_largest(given, count)), _sorted(usual.keep_largest(codes, count))),
    ]
    if not all(torch.equal(*pair) for pair in pairs):
        return math.inf
    wide = torch.cat([sae.part(model).gain * sae.dictionary(model) for model in sae.models], 1)
    wide = wide.to(torch.bfloat16) if precision == "mixed" else wide
    target = torch.cat(list(tokens), 1)
    sums = zip(*(_sums(each, chosen, wide, target) for each in (kernels, usual)), strict=True)
    return max(float((own - other).norm() / other.norm()) for own, other in sums)


def _sums(products: SparseProducts, codes: SparseCodes, wide: Tensor, target: Tensor) -> list[Tensor]:
    """The reconstruction, and gradients of half its squared error: of codes and of concepts."""
    with torch.enable_grad():
        values = codes.values.detach().requires_grad_()
        decoded = products.decode(SparseCodes(codes.indices, values), wide)
        slope = (decoded - target).detach()
        (gradient,) = torch.autograd.grad(decoded, values, slope.to(decoded.dtype))
    groups = products.groups(codes.indices, len(wide))
    return [decoded.float(), gradient, groups.sum(codes.values, slope), groups.sum_values(gradient)]


def _sorted(values: Tensor) -> Tensor:
    return values.sort(1).values
