"""Dictionaries whose concepts are mixtures of the same points in all models (`dictionary_rows: archetypes`).

Model i decodes with D_i = W C_i + L_i at unit norm. C_i [p, d_i] are fixed points, the same images and positions
in every model; W >= 0 [c, p] has rows that sum to 1 and is common to all; rows of L_i lie in a small ball. This is
the relaxed archetypal dictionary (RA-SAE, Fel et al. 2025) with one W for several models. Only the parametrisation
is another: the step gives the gradients of the dictionaries' weights, and those of W and L follow.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

RADIUS = 0.1  # of the balls, in the points' unit: the mean norm of a model's tokens
SMALLEST_SUM = 1e-8  # of a row of W that is scaled to 1


class Archetypes:
    """W, L and their AdamW; the dictionaries' weights are written anew by every `step`.

    dictionaries: each model's weight (c, d). points: each model's (p, d); the first c are where concepts start.
    mixture: W. offsets: L. Gradients of several processes are one before they come here, so W is the same in all.
    """

    def __init__(
        self,
        dictionaries: Mapping[str, nn.Parameter],
        points: Mapping[str, Float[Tensor, "p _"]],
        rate: float,
        weight_decay: float,
    ) -> None:
        """Raises:
        ValueError: there are fewer points than concepts.
        """
        self.dictionaries, self.points = dictionaries, dict(points)
        some = next(iter(points.values()))
        concepts, number = len(next(iter(dictionaries.values()))), len(some)
        if number < concepts:
            raise ValueError(f"{number} points leave {concepts - number} of {concepts} concepts without a start.")
        self.mixture = nn.Parameter(torch.eye(concepts, number, dtype=some.dtype, device=some.device))
        self.offsets = {model: nn.Parameter(torch.zeros_like(weight)) for model, weight in dictionaries.items()}
        groups: list[dict[str, Any]] = [
            {"params": [self.mixture], "name": "mixture", "weight_decay": 0.0},
            *({"params": [own], "name": f"offsets of {model}"} for model, own in self.offsets.items()),
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=rate, weight_decay=weight_decay, fused=True)
        self._write()

    @torch.no_grad()
    def backward(self) -> None:
        """Move the dictionaries' gradients to W and L: dL/dW = sum_i (dL/dD_i) C_i^T."""
        gradients = {model: weight.grad for model, weight in self.dictionaries.items() if weight.grad is not None}
        self.mixture.grad = torch.stack([own @ self.points[model].T for model, own in gradients.items()]).sum(0)
        for model, own in gradients.items():
            self.offsets[model].grad, self.dictionaries[model].grad = own, None

    @torch.no_grad()
    def step(self, clip_norm: float) -> None:
        """One update, back onto the simplex and into the balls, and into the dictionaries."""
        for parameter in (self.mixture, *self.offsets.values()):
            nn.utils.clip_grad_norm_(parameter, clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        onto_simplex(self.mixture)
        for own in self.offsets.values():
            into_ball(own, RADIUS)
        self._write()

    def state(self) -> dict[str, Any]:
        """Everything that the next steps depend on."""
        return {
            "mixture": self.mixture.detach(),
            "offsets": {model: own.detach() for model, own in self.offsets.items()},
            "points": self.points,
            "optimiser": self.optimiser.state_dict(),
        }

    @torch.no_grad()
    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self.mixture.copy_(state["mixture"])
        for model, own in self.offsets.items():
            own.copy_(state["offsets"][model])
            self.points[model].copy_(state["points"][model])
        self.optimiser.load_state_dict(state["optimiser"])
        self._write()

    @torch.no_grad()
    def _write(self) -> None:
        for model, weight in self.dictionaries.items():
            torch.addmm(self.offsets[model], self.mixture, self.points[model], out=weight)


def onto_simplex(mixture: Float[Tensor, "c p"]) -> Float[Tensor, "c p"]:
    """In place: no entry below 0, rows that sum to 1; a row without a positive entry is zeros."""
    mixture.clamp_(min=0)
    return mixture.div_(mixture.sum(1, keepdim=True).clamp_min(SMALLEST_SUM))


def into_ball(offsets: Float[Tensor, "c d"], radius: float) -> Float[Tensor, "c d"]:
    """In place: rows that are longer than `radius` are shortened to it."""
    return offsets.mul_(radius / offsets.norm(dim=1, keepdim=True).clamp_min(radius))
