"""Coordinated activation maximisation: the image in which a model scores a concept highest (stage `maximise`).

arXiv 2502.03714, section 4.5 and eq. 8. Every model is maximised on its own; initial phase, crops and noise are
functions of the seed alone, the same for all models and concepts, so differences between the pictures come from
the models.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from usae.common.params import MaximiseParams
from usae.common.seeds import Part, seed_of
from usae.showing.maximisation.directions import Directions, ScoreKind, reduce_tokens
from usae.showing.maximisation.maco import initial_phase, render

CENTRE_SPREAD = 0.15  # standard deviation of the crop centres, in image sides
MASK_PERCENTILE = 80.0  # attributions above it are shown opaque
MASK_PARTS = 12  # of the side, over one of which attributions are averaged

TokensOf = Callable[[Tensor], Tensor]  # pixels [b, 3, input, input] -> tokens [b, t, d]


@dataclass(frozen=True)
class Crops:
    """The views of one step from one start, the same for every concept and model."""

    grid: Tensor  # (crops, input, input, 2), sampling positions in -1..1
    noise: Tensor  # (crops, 3, input, input)


@dataclass(frozen=True)
class Ascent:
    """n targets' pictures, one from each start."""

    images: Tensor  # (n, starts, 3, size, size), RGB in 0..1
    attribution: Tensor  # (n, starts, size, size), sum over steps of |d score / d pixel|
    curve: Tensor  # (n, starts, steps), score of the crops before each step

    def of_target(self, n: int) -> "Ascent":
        """One target's, without the first axis."""
        return Ascent(self.images[n], self.attribution[n], self.curve[n])

    @classmethod
    def with_starts_of(cls, ascents: Sequence["Ascent"]) -> Self:
        """The same targets from the starts of all `ascents`, in order."""
        return cls(
            images=torch.cat([ascent.images for ascent in ascents], dim=1),
            attribution=torch.cat([ascent.attribution for ascent in ascents], dim=1),
            curve=torch.cat([ascent.curve for ascent in ascents], dim=1),
        )


def ascend(
    tokens: TokensOf, pixels: int, targets: Directions, magnitude: Tensor, params: MaximiseParams, seeds: list[int]
) -> Ascent:
    """Gradient ascent on the phases (NAdam, as MACO) for each of n directions, from one start per seed, all at
    once: their gradients do not meet.

    Shapes: magnitude [3, size, size//2 + 1] (see `maco.py`); `pixels` is the side of the model's input.
    """
    device = targets.weight.device
    spectrum = magnitude.to(device, torch.float32)
    phases = [initial_phase(params.size, torch_generator(seed, "first phase")) for seed in seeds]
    starts = torch.stack(phases).to(device)
    phase = starts.repeat(len(targets.weight), 1, 1, 1, 1).requires_grad_()  # (n, starts, 3, rows, columns)
    optimiser = torch.optim.NAdam([phase], lr=params.learning_rate)
    attribution = torch.zeros(*phase.shape[:2], params.size, params.size, device=device)
    curve = torch.empty(*phase.shape[:2], params.steps, device=device)
    for step in range(params.steps):
        images = render(phase, spectrum)  # (n, starts, 3, size, size)
        views = crop(images, [draw_crops(seed, step, params, pixels) for seed in seeds])
        score = own_scores(targets(tokens(views)), params.score, len(seeds))  # (n, starts)
        objective = score - penalty(images, params)
        phase_gradient, image_gradient = torch.autograd.grad(objective.sum(), [phase, images])
        phase.grad = -phase_gradient
        optimiser.step()
        attribution += image_gradient.abs().mean(dim=-3)
        curve[..., step] = score.detach()
    return Ascent(render(phase.detach(), spectrum), attribution, curve)


def own_scores(values: Tensor, score: ScoreKind, starts: int) -> Tensor:
    """Every target's score of its own views, mean over crops: [n * starts * crops, t, n] -> [n, starts]."""
    own = values.unflatten(0, (values.shape[-1], -1)).diagonal(dim1=0, dim2=-1)  # (starts * crops, t, n)
    scores: Tensor = reduce_tokens(own, score).unflatten(0, (starts, -1)).mean(dim=1)  # (starts, n)
    return scores.T


def penalty(images: Tensor, params: MaximiseParams) -> Tensor:
    """The regulariser of eq. 8, per image: weighted total variation and distance from grey, both means over
    pixels.

    Shapes: images [..., 3, size, size] in 0..1 -> [...].
    """
    down, right = (images.diff(dim=side).abs().mean(dim=(-3, -2, -1)) for side in (-2, -1))
    grey = (images - 0.5).square().mean(dim=(-3, -2, -1))
    return params.total_variation * (down + right) + params.l2 * grey


def draw_crops(seed: int, step: int, params: MaximiseParams, pixels: int) -> Crops:
    """Square crops around the middle and their noise, a function of (seed, step) alone.

    Centres are 0.5 + 0.15 N(0, 1), moved inwards so that no crop leaves the image; noise is normal plus uniform,
    as in MACO. Sampling positions do not depend on `pixels`, the model's input size, except in number.
    """
    generator = torch_generator(seed, "crops", step)
    low, high = params.crop_side
    sides = low + (high - low) * torch.rand(params.crops, generator=generator)  # (crops,), share of the image
    centres = 0.5 + CENTRE_SPREAD * torch.randn(params.crops, 2, generator=generator)  # (crops, x and y)
    centres = centres.clamp(sides[:, None] / 2, 1 - sides[:, None] / 2)
    theta = torch.zeros(params.crops, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = sides
    theta[:, :, 2] = 2 * centres - 1
    shape = (params.crops, 3, pixels, pixels)
    normal = torch.randn(shape, generator=generator)
    uniform = torch.rand(shape, generator=generator) - 0.5
    grid = F.affine_grid(theta, list(shape), align_corners=False)  # (crops, input, input, 2)
    return Crops(grid, params.noise * (normal + uniform))


def crop(images: Tensor, crops: list[Crops]) -> Tensor:
    """Each image's crops: [n, starts, 3, size, size] -> [n * starts * crops, 3, input, input], in that order."""
    per_target, per_start = (len(images), 1, 1, 1), len(crops[0].grid)
    grid = torch.cat([start.grid for start in crops]).to(images.device)  # (starts * crops, input, input, 2)
    noise = torch.cat([start.noise for start in crops]).to(images.device)
    repeated = images.flatten(0, 1).repeat_interleave(per_start, dim=0)  # (n * starts * crops, 3, size, size)
    views = F.grid_sample(repeated, grid.repeat(per_target), align_corners=False)
    return views + noise.repeat(per_target)


def resize(images: Tensor, pixels: int) -> Tensor:
    """Complete images as the model sees them: [n, 3, size, size] -> [n, 3, pixels, pixels]."""
    return F.interpolate(images, size=(pixels, pixels), mode="bilinear", antialias=True)


def to_rgba(images: Tensor, attribution: Tensor) -> np.ndarray:
    """The picture as scored, made transparent where it never moved the score.

    The mask is averaged over a twelfth of the side: gradients follow the grid of a network's patches.

    Shapes: images [n, 3, size, size] in 0..1, attribution [n, size, size] -> [n, size, size, 4] uint8.
    """
    colour = images.permute(0, 2, 3, 1).cpu().numpy()  # (n, rows, columns, rgb)
    side = images.shape[-1] // MASK_PARTS // 2 * 2 + 1
    smooth = F.avg_pool2d(attribution[:, None], side, 1, side // 2, count_include_pad=False)  # (n, 1, size, size)
    weight = smooth[:, 0].cpu().numpy()
    limit = np.percentile(weight, MASK_PERCENTILE, axis=(1, 2), keepdims=True)
    alpha = np.minimum(weight / np.maximum(limit, np.finfo(np.float32).tiny), 1.0)
    rgba = np.concatenate([colour, alpha[..., None]], axis=-1)
    return np.asarray(np.rint(rgba * 255), dtype=np.uint8)


def torch_generator(seed: int, name: str, *parts: Part) -> torch.Generator:
    """A CPU generator for one stream, so that every device draws the same numbers."""
    return torch.Generator().manual_seed(seed_of(seed, name, *parts))
