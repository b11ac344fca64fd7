"""Self-distilled objective: DINO (arXiv 2104.14294) with iBOT's masked patches (arXiv 2111.07832).

No label and no caption: a student sees crops, some of them with patches painted grey, and predicts what an
averaged copy of itself says of the whole. Centring and sharpening keep the two from agreeing on nothing.
"""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from usae.backbones.weights.pretraining.architectures import final_tokens
from usae.backbones.weights.pretraining.scenes import Scenes, exposed, flipped, tinted

PROTOTYPES = 384
GLOBAL_SIZE, LOCAL_SIZE, PATCH = 48, 24, 8
GLOBAL_AREA, LOCAL_AREA = (0.40, 0.80), (0.10, 0.25)
LOCAL_CROPS = 3
MASKED = 0.35
TEACHER_TEMPERATURE, STUDENT_TEMPERATURE = 0.05, 0.1
CENTRE_MOMENTUM = 0.9
TEACHER_MOMENTUM = 0.985


class Head(nn.Module):
    """Token or pooled token [..., d] to the cosine with each prototype [..., PROTOTYPES]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(width, 192), nn.GELU(), nn.Linear(192, 64))
        self.prototypes = nn.Parameter(torch.randn(PROTOTYPES, 64))

    def forward(self, tokens: Tensor) -> Tensor:
        """Cosines [..., PROTOTYPES]."""
        return functional.normalize(self.project(tokens), dim=-1) @ functional.normalize(self.prototypes, dim=-1).T


class Network(nn.Module):
    """A backbone with one head for the pooled tokens and one for the single token."""

    def __init__(self, backbone: nn.Module, width: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.image_head = Head(width)
        self.token_head = Head(width)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [b, t, d] and image scores [b, PROTOTYPES]."""
        tokens = final_tokens(self.backbone, pixels)  # (images, tokens, width)
        return tokens, self.image_head(tokens.mean(1))


class Distilled(nn.Module):
    """Student, teacher (its moving average) and the two centres."""

    image_centre: Tensor
    token_centre: Tensor

    def __init__(self, backbone: nn.Module, width: int, scenes: Scenes) -> None:
        super().__init__()
        self.scenes = scenes
        self.student = Network(backbone, width)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.register_buffer("image_centre", torch.zeros(PROTOTYPES))
        self.register_buffer("token_centre", torch.zeros(PROTOTYPES))

    def forward(self, batch: Tensor) -> Tensor:
        """The loss of the scenes numbered `batch` [b]: between crops, and at the masked patches."""
        images = self.scenes.pixels(batch)
        views = torch.cat([crop(images, GLOBAL_SIZE, GLOBAL_AREA) for _ in range(2)])  # (2 images, 3, size, size)
        small = torch.cat([crop(images, LOCAL_SIZE, LOCAL_AREA) for _ in range(LOCAL_CROPS)])
        with torch.no_grad():
            seen, seen_scores = self.teacher(views)
            image_target = self._sharpen(seen_scores, "image_centre").view(2, len(batch), -1)
        masked = torch.rand(seen.shape[:2]) < MASKED  # (2 images, tokens)
        tokens, scores = self.student(paint_grey(tinted(views), masked))
        with torch.no_grad():
            token_target = self._sharpen(self.teacher.token_head(seen[masked]), "token_centre")
        token_loss = _cross_entropy(token_target, self.student.token_head(tokens[masked]))
        guesses = torch.cat(
            [scores.view(2, len(batch), -1), self.student(small)[1].view(LOCAL_CROPS, len(batch), -1)]
        )
        pairs = [(a, g) for a in range(2) for g in range(len(guesses)) if a != g]
        image_loss = torch.stack([_cross_entropy(image_target[a], guesses[g]) for a, g in pairs]).mean()
        return image_loss + token_loss

    def after_step(self, share: float) -> None:
        """Moves the teacher towards the student, ever more slowly as `share` goes from 0 to 1."""
        momentum = 1.0 - (1.0 - TEACHER_MOMENTUM) * 0.5 * (1.0 + math.cos(math.pi * share))
        with torch.no_grad():
            for mean, value in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                mean.lerp_(value, 1.0 - momentum)

    def _sharpen(self, scores: Tensor, centre: str) -> Tensor:
        """Centred teacher probabilities [..., PROTOTYPES]; the centre then moves towards these scores."""
        middle: Tensor = getattr(self, centre)
        target = ((scores - middle) / TEACHER_TEMPERATURE).softmax(-1)
        middle.lerp_(scores.flatten(0, -2).mean(0), 1.0 - CENTRE_MOMENTUM)
        return target


def crop(images: Tensor, size: int, area: tuple[float, float]) -> Tensor:
    """A random square of each image [b, 3, s, s], `area` of it, resized to `size` and varied."""
    side = torch.empty(len(images)).uniform_(*area).sqrt()
    shift = (torch.rand(len(images), 2) * 2 - 1) * (1 - side)[:, None]
    affine = torch.zeros(len(images), 2, 3)
    affine[:, 0, 0] = affine[:, 1, 1] = side
    affine[:, :, 2] = shift
    grid = functional.affine_grid(affine, [len(images), 3, size, size], align_corners=False)
    return tinted(
        exposed(flipped(functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)))
    )


def paint_grey(images: Tensor, masked: Tensor) -> Tensor:
    """The images [b, 3, s, s] with the patches where `masked` [b, t] replaced by middle grey."""
    side = images.shape[-1] // PATCH
    mask = masked.view(-1, 1, side, side).repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
    return torch.where(mask, 0.5, images)


def _cross_entropy(target: Tensor, scores: Tensor) -> Tensor:
    return -(target * (scores / STUDENT_TEMPERATURE).log_softmax(-1)).sum(-1).mean()
