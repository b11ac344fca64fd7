"""The generated world of the demo: 64-px scenes whose concepts are known, token by token.

`scene(seed, number)` is a pure function. One to three objects (shape, colour, texture, size) lie on a textured
background; `Scene.coverage` says which share of every 8x8-px cell each attribute fills.
Used by stage `images`, by pretraining (training scenes) and by the probes of weights (held-out scenes).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from usae.images.sources.shapes.painting import (
    COLOURS,
    OUTLINES,
    SIZE,
    SceneObject,
    develop,
    outline_distance,
    paint_background,
    paint_object,
)

GRID = 8
CROWD = (0.25, 0.40, 0.35)
RADII = ((8.0, 20.0), (8.0, 15.0), (8.0, 13.0))
MARGIN = 3.0
SPACING = 0.8
PLACEMENTS = 24

SHAPES = tuple(OUTLINES)
TEXTURES = ("solid", "striped", "dotted", "checked")
BACKGROUNDS = {"plain": "plain", "dots": "dotted", "stripes": "striped", "checks": "checked", "waves": "wavy"}

GROUPS: dict[str, tuple[str, ...]] = {
    "shape": SHAPES,
    "colour": tuple(COLOURS),
    "texture": TEXTURES,
    "background": tuple(BACKGROUNDS),
}
ATTRIBUTES: tuple[str, ...] = tuple(f"{group}: {name}" for group, names in GROUPS.items() for name in names)


@dataclass(frozen=True)
class Scene:
    """One generated image and all that is known about it.

    image: uint8 [64, 64, 3], RGB. owner: uint8 [64, 64], 0 where the background is seen, i + 1 for `objects[i]`.
    coverage: uint8 [8, 8, A], share of the cell's pixels carrying each of `ATTRIBUTES`, 255 = all of them.
    """

    image: NDArray[np.uint8]
    caption: str
    coverage: NDArray[np.uint8]
    objects: tuple[SceneObject, ...]
    background: str
    owner: NDArray[np.uint8]

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which attributes at least one pixel of the scene carries, [A]."""
        return np.asarray(self.coverage.any(axis=(0, 1)))


def scene(seed: int, number: int) -> Scene:
    """The scene `number` of the stream `seed`: the same bytes on every call, whatever was drawn before."""
    rng = np.random.default_rng([seed, number])
    background = str(rng.choice(list(BACKGROUNDS)))
    objects = _place(rng)
    canvas = paint_background(background, rng)
    owner = np.zeros((SIZE, SIZE), dtype=np.uint8)
    for index, item in enumerate(objects):
        distance = outline_distance(item)
        canvas = paint_object(canvas, item, distance, rng)
        owner[distance < 0] = index + 1
    return Scene(
        image=develop(canvas, rng),
        caption=f"{_list_in_words([item.phrase for item in objects])} on a {BACKGROUNDS[background]} background",
        coverage=_coverage(owner, objects, background),
        objects=objects,
        background=background,
        owner=owner,
    )


def _list_in_words(phrases: list[str]) -> str:
    head, last = phrases[:-1], phrases[-1]
    return f"{', '.join(head)} and {last}" if head else last


def _place(rng: np.random.Generator) -> tuple[SceneObject, ...]:
    """One to three objects that may overlap at their rims; one that finds no room is left out."""
    placed: list[SceneObject] = []
    for radii in RADII[: int(rng.choice(len(CROWD), p=CROWD)) + 1]:
        for _ in range(PLACEMENTS):
            item = _draw_object(rng, float(rng.uniform(*radii)))
            if all(_apart(item, other) for other in placed):
                placed.append(item)
                break
    return tuple(placed)


def _draw_object(rng: np.random.Generator, radius: float) -> SceneObject:
    low, high = radius + MARGIN, SIZE - radius - MARGIN
    return SceneObject(
        shape=SHAPES[rng.integers(len(SHAPES))],
        colour=tuple(COLOURS)[rng.integers(len(COLOURS))],
        texture=TEXTURES[rng.integers(len(TEXTURES))],
        x=float(rng.uniform(low, high)),
        y=float(rng.uniform(low, high)),
        radius=radius,
        angle=float(rng.uniform(-0.35, 0.35)),
        texture_angle=float(rng.uniform(-0.8, 0.8)),
    )


def _apart(a: SceneObject, b: SceneObject) -> bool:
    return bool(np.hypot(a.x - b.x, a.y - b.y) >= SPACING * (a.radius + b.radius))


def _coverage(owner: NDArray[np.uint8], objects: tuple[SceneObject, ...], background: str) -> NDArray[np.uint8]:
    """Share of each cell's pixels that carry each attribute, 0..255, [8, 8, A]."""
    cell = SIZE // GRID
    carried = np.zeros((len(objects) + 1, len(ATTRIBUTES)), dtype=np.int64)
    carried[0, ATTRIBUTES.index(f"background: {background}")] = 1
    for index, item in enumerate(objects):
        carried[index + 1, [ATTRIBUTES.index(name) for name in item.attributes]] = 1
    seen = owner[..., None] == np.arange(len(objects) + 1)  # (rows, columns, owners)
    counts = seen.reshape(GRID, cell, GRID, cell, -1).sum(axis=(1, 3))  # (grid, grid, owners)
    return np.asarray(np.rint(counts @ carried * (255 / cell**2)), dtype=np.uint8)
