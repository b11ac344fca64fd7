"""One concept as every model would have it, seen by every model (stage `maximise`, arXiv 2502.03714, section 4.5).

A portrait has M models x S starts pictures; each is then shown whole to all M models, and every target is read
off: the raw material of table `maximisation` (`transfer.py`). Portraits are kept one by one, so that a killed
run goes on.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from usae.activations.store.files import write_whole
from usae.backbones.networks.backbone import Backbone
from usae.common.params import MaximiseParams
from usae.sae.universal import UniversalSAE
from usae.showing.maximisation.ascent import Ascent, ascend, to_rgba, torch_generator, whole
from usae.showing.maximisation.directions import Directions, concept_directions, random_directions, reduce_tokens

PICTURES = 8  # made at a time: half the CPU-seconds of 2, and 24 take no fewer; a killed run makes them again


@dataclass(frozen=True)
class Target:
    """A concept, or a random direction, the control."""

    kind: str  # concept | random
    number: int

    @property
    def name(self) -> str:
        """Of its folder and file: 12, or random-3."""
        return str(self.number) if self.kind == "concept" else f"{self.kind}-{self.number}"


@dataclass(frozen=True)
class Eye:
    """One model as it looks at pictures. centre: its mean token [d]; targets are the rows of `directions`."""

    backbone: Backbone
    directions: Directions
    centre: Tensor


@dataclass(frozen=True)
class Portrait:
    """The pictures of one target; m models made for, s starts, m models that look, n targets, t tokens."""

    pictures: np.ndarray  # (m, s, size, size, 4) uint8; alpha is the attribution mask
    curves: np.ndarray  # (m, s, steps) float32: score of the crops before each step
    scores: np.ndarray  # (m looking, m, s, n) float32: every target's score of the whole picture
    maps: np.ndarray  # (m looking, m, s, t) float32: this target's value at every token
    views: np.ndarray  # (m, s, widest) float32: mean token about the centre, as the own model sees it; unit norm

    def save(self, path: Path) -> None:
        """Write it whole or not at all."""
        buffer = io.BytesIO()
        np.savez(buffer, **{field.name: getattr(self, field.name) for field in fields(self)})
        write_whole(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> Self:
        """As saved."""
        with np.load(path) as stored:
            return cls(**{field.name: stored[field.name] for field in fields(cls)})


@dataclass(frozen=True)
class Collection:
    """The portraits of all targets, in order, and per model the targets' scores of real images [images, n]."""

    targets: Sequence[Target]
    portraits: Sequence[Portrait]
    real: Mapping[str, np.ndarray]

    @property
    def models(self) -> tuple[str, ...]:
        """In the order of the portraits' axes."""
        return tuple(self.real)


def targets_of(concepts: Sequence[int], random: int) -> list[Target]:
    """The chosen concepts, then the control."""
    return [Target("concept", number) for number in concepts] + [Target("random", n) for n in range(random)]


def open_eye(
    usae: UniversalSAE,
    model: str,
    backbone: Backbone,
    targets: Sequence[Target],
    centre: Sequence[float],
    seed: int,
) -> Eye:
    """A model that can be shown pictures; random directions are its own, drawn from the seed and its place."""
    concepts = [target.number for target in targets if target.kind == "concept"]
    generator = torch_generator(seed, "random directions", model)
    known = concept_directions(usae, model, concepts)
    control = random_directions(usae, model, len(targets) - len(concepts), generator)
    return Eye(backbone, known + control, torch.tensor(centre, device=known.weight.device))


def paint(
    eyes: Mapping[str, Eye],
    places: Sequence[int],
    magnitude: Tensor,
    params: MaximiseParams,
    seeds: Sequence[int],
    batch: int,
) -> list[Portrait]:
    """The portraits of the targets in rows `places`, painted together, about `batch` crops per forward pass."""
    ascents = [_ascend(eye, places, magnitude, params, seeds, batch) for eye in eyes.values()]
    parts = [[Ascent(a.images[n], a.attribution[n], a.curve[n]) for a in ascents] for n in range(len(places))]
    return [_portrait(eyes, place, part, params) for place, part in zip(places, parts, strict=True)]


def together(params: MaximiseParams, batch: int) -> int:
    """How many targets are painted at a time: PICTURES with all starts, but no more than `batch` crops."""
    return max(1, min(PICTURES, batch // params.crops) // params.starts)


def _portrait(eyes: Mapping[str, Eye], place: int, ascents: Sequence[Ascent], params: MaximiseParams) -> Portrait:
    """Of one target, from its pictures (s, 3, size, size) for every model."""
    pictures = [to_rgba(ascent.images, ascent.attribution) for ascent in ascents]
    shown = torch.cat([ascent.images for ascent in ascents])  # (m * s, 3, size, size)
    shape = (len(eyes), len(shown) // len(eyes))
    scores, maps, views = zip(*(_look(eye, place, shown, params, shape) for eye in eyes.values()), strict=True)
    return Portrait(
        pictures=np.stack(pictures),
        curves=np.stack([ascent.curve.cpu().numpy() for ascent in ascents]),
        scores=np.stack(scores),
        maps=np.stack(maps),
        views=_own_views(views),
    )


def _ascend(
    eye: Eye, places: Sequence[int], magnitude: Tensor, params: MaximiseParams, seeds: Sequence[int], batch: int
) -> Ascent:
    some = max(1, batch // (params.crops * len(places)))
    targets, pixels = eye.directions.only(places), eye.backbone.size
    parts = [
        ascend(eye.backbone.tokens, pixels, targets, magnitude, params, list(seeds[start : start + some]))
        for start in range(0, len(seeds), some)
    ]
    return Ascent(*(torch.cat([getattr(part, field.name) for part in parts], dim=1) for field in fields(Ascent)))


@torch.no_grad()
def _look(
    eye: Eye, place: int, shown: Tensor, params: MaximiseParams, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What one model makes of all pictures: scores (m, s, n), maps (m, s, t), unit views (m, s, d)."""
    tokens = eye.backbone.tokens(whole(shown, eye.backbone.size))  # (m * s, tokens, width)
    values = eye.directions(tokens)  # (m * s, tokens, targets)
    views = torch.nn.functional.normalize(tokens.mean(dim=1) - eye.centre, dim=-1)  # (m * s, width)
    scores = reduce_tokens(values, params.score)
    scores, maps, views = (part.unflatten(0, shape).cpu() for part in (scores, values[..., place], views))
    return scores.numpy(), maps.numpy(), views.numpy()


def _own_views(views: Sequence[np.ndarray]) -> np.ndarray:
    """Each model's view of its own pictures, filled up with zeros to the widest: (m, s, widest)."""
    own = [view[model] for model, view in enumerate(views)]  # each (s, width)
    widest = max(view.shape[-1] for view in own)
    return np.stack([np.pad(view, ((0, 0), (0, widest - view.shape[-1]))) for view in own])
