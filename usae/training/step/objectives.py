"""How far a reconstruction is from its target: l1, l2 or Frobenius, and the closed-form slope for the fast step.

The paper's eq. 5 is the Frobenius norm (unsquared), its appendix A.1 and the authors' code the mean absolute
error. All three are functions of one sum over elements, so they add up over blocks of rows and over processes.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Loss = Literal["l1", "l2", "frobenius"]


@dataclass(frozen=True)
class Objective:
    """One of the three. A residual is target - reconstruction; `elements` counts its entries over the batch."""

    loss: Loss

    @property
    def needs_total(self) -> bool:
        """Whether the slope depends on the sum over the whole batch."""
        return self.loss == "frobenius"

    def terms(self, residual: Tensor) -> Tensor:
        """What is summed over the elements: absolute values or squares."""
        return residual.abs() if self.loss == "l1" else residual.square()

    def value(self, total: Tensor, elements: int | Tensor) -> Tensor:
        """The loss, from the sum of `terms`."""
        return total.sqrt() if self.loss == "frobenius" else total / elements

    def slope(self, residual: Tensor, total: Tensor, elements: Tensor, weight: float = 1.0) -> Tensor:
        """weight * d value / d reconstruction, of the residual's shape; total and elements are per column."""
        match self.loss:
            case "l1":
                return residual.sign().div_(-elements / weight)
            case "l2":
                return residual * (-2 * weight / elements)
            case "frobenius":
                return residual * (-weight * torch.where(total > 0, total, torch.inf).rsqrt())
