"""Activations with known concepts: what a universal SAE should find, and what no rule should call universal.

A_i = S G_i + noise: S are the activities of all concepts per image and token, G_i the directions of model i's own
ones. Stage `planted` trains on them; tests use them where an exact answer is needed. Everything is a pure
function of the seed, image by image.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from usae.common.params import WorldParams
from usae.common.seeds import generator
from usae.common.types import Array

SHARED, PAIR, MOST, PRIVATE, TWIN = "shared", "pair", "most", "private", "twin"
RATES = (0.08, 0.16)  # range of the chance that an image shows a concept
SIDES = (0.3, 0.7)  # range of a region's sides, as a share of the grid
SPREAD = 0.5  # of the log-normal activities within a region, whose mean is 1
POSITIONS = 4  # corners of regions to which concepts keep where position confounds


@dataclass(frozen=True)
class PlantedImages:
    """Chosen images of a split, `image_ids` [image].

    activity: float32 [image, token, concept]; activations: per model float16 [image, token, d].
    """

    image_ids: Array
    activity: Array
    activations: tuple[Array, ...]


@dataclass(frozen=True)
class PlantedWorld:
    """Concepts of several models, of five kinds.

    shared: all models have it. pair: two have it. most: all but one have it, where there are more than three.
    private: one has it. twin: a private one too, but it comes with like ones in all other models, region by region
    with chance `params.rho`: a hard negative.
    kinds (c,), owners (c, m) bool; directions: per model [c, d], unit rows for its own concepts, others zero;
    rates (c,): chance that an image shows the concept; leaders (c,): the group of twins, -1 for the others;
    homes (c, 3): class, row and column (in 0..1) to which confounds tie it.
    """

    params: WorldParams
    seed: int
    kinds: Array
    owners: Array
    directions: tuple[Array, ...]
    rates: Array
    leaders: Array
    homes: Array

    @classmethod
    def draw(cls, params: WorldParams, seed: int) -> "PlantedWorld":
        """The world of a seed."""
        rng = generator(seed, "planted world")
        kinds, owners, leaders = _members(params)
        concepts = len(kinds)
        directions = [rng.normal(size=(concepts, width)) for width in params.widths]
        rates = rng.uniform(*RATES, concepts + params.twins)
        positions = rng.random((POSITIONS, 2))
        tied = np.column_stack(
            [rng.integers(params.classes, size=concepts), rng.integers(POSITIONS, size=concepts)]
        )
        return cls(
            params=params,
            seed=seed,
            kinds=kinds,
            owners=owners,
            directions=tuple(
                owners[:, [model]] * rows / np.linalg.norm(rows, axis=1, keepdims=True)
                for model, rows in enumerate(directions)
            ),
            rates=np.where(leaders < 0, rates[:concepts], rates[concepts + leaders]),
            leaders=leaders,
            homes=np.column_stack([tied[:, 0], positions[tied[:, 1]]]),
        )

    @property
    def tokens(self) -> int:
        """Tokens per image."""
        return self.params.grid**2

    @property
    def superposition(self) -> Array:
        """(m,) concepts of a model per channel."""
        return np.asarray(self.owners.sum(axis=0) / np.array(self.params.widths))

    @property
    def noise(self) -> Array:
        """(m,) standard deviation per channel that makes the expected signal `params.snr` times the noise."""
        cover = np.mean(SIDES) ** 2
        power = self.owners.T @ self.rates * cover * np.exp(SPREAD**2)  # (models,)
        return np.asarray(np.sqrt(power / np.array(self.params.widths) / self.params.snr))

    def blocks(self, split: str, images: int, size: int) -> Iterator[PlantedImages]:
        """The first `images` images of a split, `size` at a time; the blocks' size changes no value."""
        for start in range(0, images, size):
            yield self.images(split, range(start, min(start + size, images)))

    def images(self, split: str, image_ids: Sequence[int]) -> PlantedImages:
        """Chosen images of a split, `train` or `val`."""
        drawn = [self._image(generator(self.seed, "planted image", split, image)) for image in image_ids]
        activity = np.stack([scene for scene, _ in drawn])  # (images, tokens, concepts)
        activations = (
            (activity @ directions + deviation * np.stack([noise[model] for _, noise in drawn])).astype(np.float16)
            for model, (directions, deviation) in enumerate(zip(self.directions, self.noise, strict=True))
        )
        return PlantedImages(np.array(image_ids), activity.astype(np.float32), tuple(activations))

    def _image(self, rng: np.random.Generator) -> tuple[Array, list[Array]]:
        """Activities (tokens, concepts) of one image, and standard noise (tokens, d) per model."""
        concepts = len(self.kinds)
        draws = rng.random((concepts + self.params.twins, 5))  # presence, height, width, row, column
        copies = (self.leaders >= 0) & (rng.random(concepts) < np.sqrt(self.params.rho))
        draws = draws[np.where(copies, concepts + self.leaders, np.arange(concepts))]  # (concepts, 5)
        own = rng.integers(self.params.classes) == self.homes[:, 0]
        rates = self.rates * (1 - self.params.class_pull + self.params.class_pull * self.params.classes * own)
        stays = rng.random((concepts, 1)) < self.params.position_pull
        corners = np.where(stays, self.homes[:, 1:], draws[:, 3:])  # (concepts, 2)
        regions = _regions(draws[:, 1:3], corners, self.params.grid)  # (tokens, concepts)
        strength = rng.lognormal(-(SPREAD**2) / 2, SPREAD, regions.shape)  # (tokens, concepts)
        noise = [rng.normal(size=(self.tokens, width)) for width in self.params.widths]
        return strength * regions * (draws[:, 0] < rates), noise


def _members(params: WorldParams) -> tuple[Array, Array, Array]:
    """Kind (c,), owners (c, m) and group of twins (c,) of every concept."""
    models = len(params.widths)
    groups = [(SHARED, tuple(range(models)), -1)] * params.shared
    groups += [(PAIR, pair, -1) for pair in combinations(range(models), 2) for _ in range(params.pairwise)]
    groups += [(MOST, rest, -1) for rest in combinations(range(models), models - 1) for _ in range(params.most)]
    groups += [(PRIVATE, (model,), -1) for model in range(models) for _ in range(params.private)]
    groups += [(TWIN, (model,), group) for group in range(params.twins) for model in range(models)]
    owners = np.array([[model in members for model in range(models)] for _, members, _ in groups])
    return np.array([kind for kind, _, _ in groups]), owners, np.array([group for _, _, group in groups])


def _regions(sides: Array, corners: Array, grid: int) -> Array:
    """(tokens, concepts) whether a token lies in a concept's rectangle; `sides` and `corners` (c, 2) in 0..1."""
    low, high = SIDES
    lengths = np.maximum(1, np.rint((low + (high - low) * sides) * grid))  # (concepts, 2)
    first = np.floor(corners * (grid - lengths + 1))  # (concepts, 2)
    cells = np.arange(grid)[:, None, None]  # (cells, 1, 1)
    inside = (cells >= first) & (cells < first + lengths)  # (cells, concepts, 2)
    return np.asarray((inside[:, None, :, 0] & inside[None, :, :, 1]).reshape(grid * grid, -1))
