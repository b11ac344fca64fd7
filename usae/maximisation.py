"""Coordinated activation maximisation: the image that each model likes best for the same concept.

Used by the `maximise` stage (arXiv 2502.03714, section 4.5). Every model is maximised on its own; initial phase,
crops and noise are shared, so differences between the pictures come from the models. The score is
the mean over tokens of the code before ReLU and TopK, which has a gradient even where the concept is not chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from usae.backbones import Backbone
from usae.maco import initial_phase, render
from usae.maximised import Maximised
from usae.params import MaximiseParams
from usae.progress import progress
from usae.sae import UniversalSAE

CENTRE_SPREAD = 0.15  # standard deviation of the crop centres, in image sides
MASK_PERCENTILE = 80.0  # attributions above it are shown opaque


@dataclass(frozen=True)
class Crops:
    """The views of one step, the same for every concept and model."""

    grid: Tensor  # (crops, input, input, 2), sampling positions in -1..1
    noise: Tensor  # (crops, 3, input, input)


def maximise_concepts(
    usae: UniversalSAE,
    backbone: Backbone,
    model: str,
    concepts: Sequence[int],
    magnitude: Tensor,
    params: MaximiseParams,
    seed: int,
    batch: int,
) -> Maximised:
    """Maximise every concept for one model, with at most `batch` crops per forward pass.

    Shapes: magnitude [3, size, size//2 + 1] (see `usae.maco`). The same seed gives the same phase, crops and noise
    for every model whose input size is the same. Put `usae` and `backbone` in eval mode first.
    """
    if not concepts:
        nothing = np.empty((0, params.size, params.size, 4), np.uint8)
        return Maximised(nothing, np.empty((params.steps, 0), np.float32), np.empty(0, np.float32))
    together = max(1, batch // params.crops)
    groups = [list(concepts[start : start + together]) for start in range(0, len(concepts), together)]
    parts = [ascend(usae, backbone, model, group, magnitude, params, seed) for group in groups]
    return Maximised(
        pictures=np.concatenate([part.pictures for part in parts]),
        curve=np.concatenate([part.curve for part in parts], axis=1),
        scores=np.concatenate([part.scores for part in parts]),
    )


def ascend(
    usae: UniversalSAE,
    backbone: Backbone,
    model: str,
    concepts: list[int],
    magnitude: Tensor,
    params: MaximiseParams,
    seed: int,
) -> Maximised:
    """Gradient ascent on the phases of one group of concepts (NAdam, as MACO)."""
    device = next(backbone.parameters()).device
    spectrum = magnitude.to(device, torch.float32)
    start = initial_phase(params.size, generator_of(seed, 0))
    phase = start.repeat(len(concepts), 1, 1, 1).to(device).requires_grad_()  # (concepts, 3, rows, columns)
    optimiser = torch.optim.NAdam([phase], lr=params.learning_rate)
    attribution = torch.zeros(len(concepts), params.size, params.size, device=device)
    curve = np.empty((params.steps, len(concepts)), dtype=np.float32)
    for step in progress(range(params.steps), description=f"maximise {model}", unit="step"):
        images = render(phase, spectrum)  # (concepts, 3, size, size)
        crops = draw_crops(seed, step, params, backbone.size)
        scores = concept_scores(usae, backbone, model, concepts, look(images, crops))  # (concepts,)
        phase_gradient, image_gradient = torch.autograd.grad(scores.sum(), [phase, images])
        phase.grad = -phase_gradient
        optimiser.step()
        attribution += image_gradient.abs().mean(dim=1)
        curve[step] = scores.detach().cpu().numpy()
    with torch.no_grad():
        images = render(phase, spectrum)
        whole = F.interpolate(images, size=(backbone.size, backbone.size), mode="bilinear", antialias=True)
        final = concept_scores(usae, backbone, model, concepts, whole)
    return Maximised(to_rgba(images, attribution), curve, final.cpu().numpy())


def draw_crops(seed: int, step: int, params: MaximiseParams, pixels: int) -> Crops:
    """Square crops around the middle and their noise, a function of (seed, step) alone.

    Centres are 0.5 + 0.15 N(0, 1), moved inwards so that no crop leaves the image; noise is normal plus uniform,
    as in MACO. Sampling positions do not depend on `pixels`, the model's input size, except in number.
    """
    generator = generator_of(seed, 1 + step)
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


def look(images: Tensor, crops: Crops) -> Tensor:
    """All crops of all images: [concepts, 3, size, size] -> [concepts * crops, 3, input, input]."""
    count, concepts = len(crops.grid), len(images)
    grid = crops.grid.to(images.device).repeat(concepts, 1, 1, 1)
    noise = crops.noise.to(images.device).repeat(concepts, 1, 1, 1)
    views = F.grid_sample(images.repeat_interleave(count, dim=0), grid, align_corners=False)
    return views + noise  # (concepts * crops, 3, input, input)


def concept_scores(
    usae: UniversalSAE, backbone: Backbone, model: str, concepts: Sequence[int], pixels: Tensor
) -> Tensor:
    """Score of each concept on its own images: mean code before ReLU and TopK over crops and tokens.

    Shapes: pixels [concepts * crops, 3, input, input], concept by concept -> [concepts].
    """
    codes: Tensor = usae.pre_codes(model, backbone.tokens(pixels))  # (concepts * crops, tokens, dictionary)
    own: Tensor = codes.mean(dim=1).unflatten(0, (len(concepts), -1)).mean(dim=1)  # (concepts, dictionary)
    rows = torch.arange(len(concepts), device=own.device)
    return own[rows, torch.tensor(concepts, device=own.device)]  # (concepts,)


def to_rgba(images: Tensor, attribution: Tensor) -> np.ndarray:
    """The picture as scored, made transparent where it never moved the score.

    Shapes: images [n, 3, size, size] in 0..1, attribution [n, size, size] -> [n, size, size, 4] uint8.
    """
    colour = images.detach().permute(0, 2, 3, 1).cpu().numpy()  # (concepts, rows, columns, rgb)
    weight = attribution.cpu().numpy()
    limit = np.percentile(weight, MASK_PERCENTILE, axis=(1, 2), keepdims=True)
    alpha = np.minimum(weight / np.maximum(limit, np.finfo(np.float32).tiny), 1.0)
    rgba = np.concatenate([colour, alpha[..., None]], axis=-1)
    return np.asarray(np.rint(rgba * 255), dtype=np.uint8)


def generator_of(seed: int, stream: int) -> torch.Generator:
    """A CPU generator for one stream of one seed, so that every device draws the same numbers."""
    state = np.random.SeedSequence([seed, stream]).generate_state(1, dtype=np.uint64)[0]
    return torch.Generator().manual_seed(int(state) % 2**63)
