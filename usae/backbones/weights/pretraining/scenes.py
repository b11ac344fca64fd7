"""What the objectives learn from: generated scenes, their captions and coverage, and small changes to them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from usae.common.runtime.progress import progress
from usae.images.sources.shapes.scenes import scene


@dataclass(frozen=True)
class Scenes:
    """`images` uint8 [n, 3, 64, 64]; `coverage` uint8 [n, t, A], the t cells in row-major order; n `captions`."""

    images: Tensor
    coverage: Tensor
    captions: tuple[str, ...]

    def pixels(self, batch: Tensor) -> Tensor:
        """The images numbered `batch` [b], RGB in 0..1, [b, 3, 64, 64]."""
        return self.images[batch].float() / 255.0


def draw_scenes(seed: int, count: int) -> Scenes:
    """The first `count` scenes of the stream `seed`, about 1.5 ms each."""
    drawn = [scene(seed, number) for number in progress(range(count), description="scenes", unit="scene")]
    return Scenes(
        images=torch.from_numpy(np.stack([item.image for item in drawn])).permute(0, 3, 1, 2).contiguous(),
        coverage=torch.from_numpy(np.stack([item.coverage for item in drawn])).flatten(1, 2),
        captions=tuple(item.caption for item in drawn),
    )


def exposed(pixels: Tensor) -> Tensor:
    """Each image [b, 3, s, s] a little darker or brighter."""
    return (pixels * torch.empty(len(pixels), 1, 1, 1).uniform_(0.85, 1.15)).clamp(0.0, 1.0)


def flipped(pixels: Tensor) -> Tensor:
    """Each image [b, 3, s, s] mirrored or not, along either axis; no caption speaks of left or right."""
    for axis in (-1, -2):
        pixels = torch.where(torch.rand(len(pixels), 1, 1, 1) < 0.5, pixels.flip(axis), pixels)
    return pixels


def tinted(pixels: Tensor) -> Tensor:
    """Each image [b, 3, s, s] under a light of another colour: one gain per channel."""
    return (pixels * torch.empty(len(pixels), 3, 1, 1).uniform_(0.8, 1.25)).clamp(0.0, 1.0)
