"""One target, maximised for every model, scored by every model (stage `maximise`, arXiv 2502.03714, section 4.5).

A painted target has M models x S starts pictures, which are kept. Each is then given whole, as it is kept, to all
M models, and every target is read off: the raw material of table `maximisation` (`transfer.py`).
"""

import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from usae.backbones.networks.backbone import Backbone
from usae.common.files.whole import write_whole
from usae.common.params import MaximiseParams
from usae.sae.universal import UniversalSAE
from usae.showing.maximisation.ascent import Ascent, ascend, resize, to_rgba, torch_generator
from usae.showing.maximisation.directions import Directions, concept_directions, random_directions, reduce_tokens

PICTURES = 6  # made at a time: half the CPU-seconds of 2, and 24 take no fewer; a killed run makes them again


@dataclass(frozen=True)
class MaximisationTarget:
    """A concept, or a random direction, the control."""

    kind: str  # concept | random
    number: int

    @property
    def name(self) -> str:
        """Of its folder and file: 12, or random-3."""
        return str(self.number) if self.kind == "concept" else f"{self.kind}-{self.number}"


@dataclass(frozen=True)
class Probe:
    """A backbone, and the targets as rows of `directions`, by which it scores pictures.

    mean_token: mean over the tokens of real images [d].
    """

    backbone: Backbone
    directions: Directions
    mean_token: Tensor


@dataclass(frozen=True)
class PaintedTarget:
    """The pictures of one target; m models made for, s starts."""

    pictures: np.ndarray  # (m, s, size, size, 4) uint8; alpha is the attribution mask
    curves: np.ndarray  # (m, s, steps) float32: score of the crops before each step

    def save(self, path: Path) -> None:
        """Write it whole or not at all."""
        buffer = io.BytesIO()
        np.savez(buffer, **{field.name: getattr(self, field.name) for field in fields(self)})
        write_whole(path, buffer.getvalue())

    @classmethod
    def kept(cls, path: Path) -> bool:
        """Whether it was saved there, and is as it was saved."""
        try:
            return path.is_file() and bool(cls.load(path))
        except (OSError, ValueError, LookupError, EOFError, NotImplementedError, BadZipFile, zlib.error):
            return False

    @classmethod
    def load(cls, path: Path) -> Self:
        """As saved."""
        with np.load(path) as stored:
            return cls(**{field.name: stored[field.name] for field in fields(cls)})


@dataclass(frozen=True)
class MaximisedTarget:
    """A painted target and what m models make of its pictures; n targets, t tokens."""

    painted: PaintedTarget
    scores: np.ndarray  # (m scoring, m, s, n) float32: every target's score of the whole picture
    maps: np.ndarray  # (m scoring, m, s, t) float32: this target's value at every token
    mean_tokens: np.ndarray  # (m, s, widest) float32: of the own model, less that of real images; unit norm

    @property
    def pictures(self) -> np.ndarray:
        """(m, s, size, size, 4) uint8."""
        return self.painted.pictures

    @property
    def curves(self) -> np.ndarray:
        """(m, s, steps) float32."""
        return self.painted.curves


@dataclass(frozen=True)
class Maximisation:
    """All targets, what was made of each, and per model the n targets' scores of real images [images, n]."""

    targets: Sequence[MaximisationTarget]
    maximised: Sequence[MaximisedTarget]
    real: Mapping[str, np.ndarray]

    @property
    def models(self) -> tuple[str, ...]:
        """In the order of the axes of `maximised`."""
        return tuple(self.real)


def targets_of(concepts: Sequence[int], random: int) -> list[MaximisationTarget]:
    """The concepts, then the control."""
    chosen = [MaximisationTarget("concept", concept) for concept in concepts]
    return chosen + [MaximisationTarget("random", direction) for direction in range(random)]


def load_probe(
    sae: UniversalSAE,
    model: str,
    backbone: Backbone,
    targets: Sequence[MaximisationTarget],
    mean_token: Sequence[float],
    seed: int,
) -> Probe:
    """The probe of one model, on the SAE's device; its random directions are its own, of the seed and its slug."""
    concepts = [target.number for target in targets if target.kind == "concept"]
    generator = torch_generator(seed, "random directions", model)
    chosen = concept_directions(sae, model, concepts)
    control = random_directions(sae, model, len(targets) - len(concepts), generator)
    return Probe(backbone, chosen + control, torch.tensor(mean_token, device=chosen.weight.device))


def maximise_targets(
    probes: Mapping[str, Probe],
    rows: Sequence[int],
    magnitude: Tensor,
    params: MaximiseParams,
    seeds: Sequence[int],
    batch: int,
) -> list[MaximisedTarget]:
    """The targets in `rows` of each probe's directions, painted all at once and scored."""
    painted = paint_targets(probes, rows, magnitude, params, seeds, batch)
    return [score_target(probes, row, each, params) for row, each in zip(rows, painted, strict=True)]


def paint_targets(
    probes: Mapping[str, Probe],
    rows: Sequence[int],
    magnitude: Tensor,
    params: MaximiseParams,
    seeds: Sequence[int],
    batch: int,
) -> list[PaintedTarget]:
    """The pictures of the targets in `rows`, all at once, about `batch` crops per forward pass."""
    ascents = [_ascend(probe, rows, magnitude, params, seeds, batch) for probe in probes.values()]
    return [_painted([ascent.of_target(n) for ascent in ascents]) for n in range(len(rows))]


def targets_at_once(params: MaximiseParams, batch: int) -> int:
    """How many targets are maximised together: PICTURES with all starts, but no more than `batch` crops."""
    return max(1, min(PICTURES, batch // params.crops) // params.starts)


def score_target(
    probes: Mapping[str, Probe], row: int, painted: PaintedTarget, params: MaximiseParams
) -> MaximisedTarget:
    """What every model makes of the pictures of the target in `row`, which it sees as they are kept, opaque."""
    pictures = torch.from_numpy(painted.pictures[..., :3].copy()).flatten(0, 1)  # (m * s, size, size, 3)
    images = pictures.permute(0, 3, 1, 2).float() / 255
    scores, maps, mean_tokens = zip(
        *(_score(probe, row, images, params, painted.pictures.shape[:2]) for probe in probes.values()), strict=True
    )
    return MaximisedTarget(painted, np.stack(scores), np.stack(maps), _own_mean_tokens(mean_tokens))


def _painted(ascents: Sequence[Ascent]) -> PaintedTarget:
    """One target, from its pictures (s, 3, size, size) for every model."""
    pictures = [to_rgba(ascent.images, ascent.attribution) for ascent in ascents]
    return PaintedTarget(np.stack(pictures), np.stack([ascent.curve.cpu().numpy() for ascent in ascents]))


def _ascend(
    probe: Probe,
    rows: Sequence[int],
    magnitude: Tensor,
    params: MaximiseParams,
    seeds: Sequence[int],
    batch: int,
) -> Ascent:
    """All starts of some targets for one model, as many starts at a time as `batch` has room for."""
    size = max(1, batch // (params.crops * len(rows)))
    targets, pixels = probe.directions.take(rows), probe.backbone.size
    return Ascent.with_starts_of(
        [
            ascend(probe.backbone.tokens, pixels, targets, magnitude, params, list(seeds[start : start + size]))
            for start in range(0, len(seeds), size)
        ]
    )


@torch.no_grad()
def _score(
    probe: Probe, row: int, images: Tensor, params: MaximiseParams, shape: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One model's scores (m, s, n) of all pictures, maps (m, s, t), mean tokens of unit norm (m, s, d)."""
    images = images.to(probe.directions.weight.device)
    tokens = probe.backbone.tokens(resize(images, probe.backbone.size))  # (m * s, tokens, width)
    values = probe.directions(tokens)  # (m * s, tokens, targets)
    mean_tokens = torch.nn.functional.normalize(tokens.mean(dim=1) - probe.mean_token, dim=-1)  # (m * s, width)
    scores = reduce_tokens(values, params.score)
    scores, maps, mean_tokens = (
        flat.unflatten(0, shape).cpu() for flat in (scores, values[..., row], mean_tokens)
    )
    return scores.numpy(), maps.numpy(), mean_tokens.numpy()


def _own_mean_tokens(mean_tokens: Sequence[np.ndarray]) -> np.ndarray:
    """Each model's mean tokens of its own pictures, filled up with zeros to the widest: (m, s, widest)."""
    own = [tokens[model] for model, tokens in enumerate(mean_tokens)]  # each (s, width)
    widest = max(tokens.shape[-1] for tokens in own)
    return np.stack([np.pad(tokens, ((0, 0), (0, widest - tokens.shape[-1]))) for tokens in own])
