"""Linear map and BatchNorm as one affine map, forward and backward without a pass over [rows, concepts].

The batch statistics of W a + b follow from the mean and the covariance of the tokens: the mean drops out, the
variance of concept c is w_c Cov w_c. So the map is known before the large product, and its gradient needs no more
than P = G^T A (G: gradients of the pre-codes, A: centred tokens) and the column sums of G:
dgamma = sum_d P w / sigma, dbeta = sum G, dW = gamma / sigma (P - dgamma / sigma W Cov); db = 0 exactly.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from usae.common.runtime.ranks import Ranks
from usae.sae.layers import Encoder
from usae.training.step.matmul import linear, packed


class FoldedEncoder:
    """One batch's view of an encoder in training mode; updates its running statistics, as BatchNorm does."""

    def __init__(self, encoder: Encoder, tokens: Float[Tensor, "n d"], ranks: Ranks, rows: int) -> None:
        """rows: how many `codes` is asked for at a time."""
        self.encoder = encoder
        weight, norm = encoder.linear.weight, encoder.norm
        self.count = ranks.sum(tokens.new_full((), len(tokens)))
        mean = ranks.sum(tokens.sum(0)) / self.count  # (d,)
        self.centred = tokens - mean
        covariance = ranks.sum(squares(self.centred)) / self.count  # (d, d)
        self.spread = linear(weight, covariance)  # (c, d); a covariance is symmetric
        variance = (self.spread * weight).sum(1)  # (c,)
        self.scale = (variance + norm.eps).rsqrt()  # 1 / sigma
        self.gain = norm.weight * self.scale
        self.map = packed(weight * self.gain[:, None], rows)  # (c, d)
        self._track(weight @ mean + encoder.linear.bias, variance)

    def codes(self, rows: slice, relu: bool = True) -> Float[Tensor, "n c"]:
        """ReLU of the pre-codes of some of the tokens, or these themselves."""
        return linear(self.centred[rows], self.map, self.encoder.norm.bias, relu)

    def backward(self, products: Float[Tensor, "c d"], sums: Float[Tensor, " c"]) -> None:
        """Set the encoder's gradients from P = G^T A and the column sums of G."""
        linear, norm = self.encoder.linear, self.encoder.norm
        scale_gradient = (products * linear.weight).sum(1) * self.scale  # (c,)
        norm.weight.grad, norm.bias.grad = scale_gradient, sums
        shrink = (scale_gradient * self.scale)[:, None]
        linear.weight.grad = torch.addcmul(products, shrink, self.spread, value=-1).mul_(self.gain[:, None])
        linear.bias.grad = torch.zeros_like(linear.bias)

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        norm = self.encoder.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.momentum is not None
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (self.count / (self.count - 1)), norm.momentum)
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked += 1


def squares(rows: Float[Tensor, "n d"]) -> Float[Tensor, "d d"]:
    """rows.T @ rows; of the symmetric quarters off the diagonal only one is computed."""
    half = rows.shape[1] // 2
    columns = rows.T.contiguous()  # (d, n)
    left, right = columns[:half], columns[half:]
    across = linear(left, right)
    return torch.cat([torch.cat([linear(left, left), across], 1), torch.cat([across.T, linear(right, right)], 1)])
