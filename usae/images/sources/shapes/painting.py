"""How the objects of the generated world become pixels: outlines, patterns, light and noise.

Every shape is a signed distance to its outline, so that edges, rims and shadows are smooth at any size.
Used by `scenes.py` only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

SIZE = 64
SMALL, LARGE = 10.0, 15.0

COLOURS = {
    "red": (0.84, 0.20, 0.20),
    "orange": (0.95, 0.52, 0.12),
    "yellow": (0.95, 0.82, 0.22),
    "green": (0.24, 0.62, 0.33),
    "blue": (0.20, 0.42, 0.84),
    "purple": (0.55, 0.28, 0.70),
}
MUTED = (
    (0.80, 0.75, 0.66),
    (0.50, 0.55, 0.61),
    (0.63, 0.69, 0.60),
    (0.70, 0.62, 0.67),
    (0.74, 0.75, 0.76),
    (0.35, 0.38, 0.43),
)

Plane = NDArray[np.float32]


@dataclass(frozen=True)
class SceneObject:
    """One object. Position and radius in pixels, angles in radians; `radius` about reaches the farthest corner."""

    shape: str
    colour: str
    texture: str
    x: float
    y: float
    radius: float
    angle: float
    texture_angle: float

    @property
    def attributes(self) -> tuple[str, str, str]:
        """The names of this object in `ATTRIBUTES`."""
        return f"shape: {self.shape}", f"colour: {self.colour}", f"texture: {self.texture}"

    @property
    def phrase(self) -> str:
        """What the caption says of this object, such as "a small red striped circle"."""
        size = "small " if self.radius < SMALL else "large " if self.radius > LARGE else ""
        words = f"{size}{self.colour} {self.texture} {self.shape}"
        return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def outline_distance(item: SceneObject, shift: float = 0.0) -> Plane:
    """Signed distance to the object's outline in pixels, negative inside, [64, 64]."""
    x, y = _pixels()
    u, v = _rotated(x - np.float32(item.x + shift), y - np.float32(item.y + shift), item.angle)
    return OUTLINES[item.shape](u, v, item.radius)


def paint_background(name: str, rng: np.random.Generator) -> NDArray[np.float32]:
    """Two muted tones of one colour in a pattern, [64, 64, 3] in 0..1."""
    x, y = _pixels()
    base = np.array(MUTED[rng.integers(len(MUTED))]) + rng.normal(0, 0.03, 3)
    tone = base + rng.choice([-1.0, 1.0]) * rng.uniform(0.12, 0.18)
    phase = rng.uniform(0, SIZE, 2).astype(np.float32)
    u, v = _rotated(x + phase[0], y + phase[1], rng.uniform(-0.4, 0.4))
    return _blend(np.broadcast_to(base, (SIZE, SIZE, 3)), tone, _pattern(name, u, v, rng.uniform(7.0, 10.0)))


def paint_object(
    canvas: NDArray[np.float32], item: SceneObject, distance: Plane, rng: np.random.Generator
) -> NDArray[np.float32]:
    """A shadow, a darker rim, then the texture in the object's jittered colour and a tint of it."""
    x, y = _pixels()
    colour = np.clip(np.array(COLOURS[item.colour]) * rng.uniform(0.88, 1.08) + rng.normal(0, 0.025, 3), 0.0, 1.0)
    u, v = _rotated(x - np.float32(item.x), y - np.float32(item.y), item.texture_angle)
    pattern = _pattern(item.texture, u, v, rng.uniform(5.0, 6.5))
    light = np.float32(1.0) - np.float32(0.12 / item.radius) * (x - item.x + y - item.y)
    paint = _blend(np.broadcast_to(colour, (SIZE, SIZE, 3)), 0.25 * colour + 0.72, pattern) * light[..., None]
    paint = _blend(paint, 0.55 * colour, 0.8 * np.clip(distance + 1.6, 0.0, 1.0))
    canvas = _blend(canvas, canvas * 0.55, np.clip(0.6 - outline_distance(item, 1.5) / 3.0, 0.0, 1.0))
    return _blend(canvas, paint, np.clip(0.5 - distance, 0.0, 1.0))


def develop(canvas: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Exposure and sensor noise, so that no pixel value gives an attribute away; uint8 [64, 64, 3]."""
    noise = rng.standard_normal(canvas.shape, dtype=np.float32)
    exposed = canvas * np.float32(255.0 * rng.uniform(0.9, 1.08)) + np.float32(3.5) * noise
    return np.asarray(np.clip(np.rint(exposed), 0, 255), dtype=np.uint8)


@cache
def _pixels() -> tuple[Plane, Plane]:
    """x and y of every pixel's centre, [64, 64] each."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) + 0.5
    return x, y


def _rotated(x: Plane, y: Plane, angle: float) -> tuple[Plane, Plane]:
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * x + sin * y, cos * y - sin * x


def _circle(u: Plane, v: Plane, radius: float) -> Plane:
    return np.hypot(u, v) - np.float32(0.92 * radius)


def _ring(u: Plane, v: Plane, radius: float) -> Plane:
    return np.asarray(np.abs(np.hypot(u, v) - np.float32(0.70 * radius)) - np.float32(0.26 * radius))


def _square(u: Plane, v: Plane, radius: float) -> Plane:
    return np.maximum(np.abs(u), np.abs(v)) - np.float32(0.76 * radius)


def _cross(u: Plane, v: Plane, radius: float) -> Plane:
    u, v = np.abs(u), np.abs(v)
    long, wide = np.float32(0.94 * radius), np.float32(0.33 * radius)
    return np.asarray(np.minimum(np.maximum(u - long, v - wide), np.maximum(u - wide, v - long)))


def _triangle(u: Plane, v: Plane, radius: float) -> Plane:
    v = v - np.float32(0.16 * radius)
    slope = np.maximum(v, np.float32(0.866) * np.abs(u) - np.float32(0.5) * v)
    return slope - np.float32(0.54 * radius)


def _star(u: Plane, v: Plane, radius: float) -> Plane:
    """Five points: the plane folds into one half-point, whose edge is a straight line."""
    fifth = np.float32(0.4 * np.pi)
    folded = np.abs(np.mod(np.arctan2(u, -v) + fifth / 2, fifth) - fifth / 2)
    length = np.hypot(u, v)
    along, across = length * np.cos(folded), length * np.sin(folded)
    inner = np.array([np.cos(fifth / 2), np.sin(fifth / 2)]) * 0.46
    normal = np.array([inner[1], 1.0 - inner[0]]) / np.hypot(inner[1], 1.0 - inner[0])
    edge = normal[0] * (along - radius) + normal[1] * across
    return np.asarray(edge, dtype=np.float32)


OUTLINES: dict[str, Callable[[Plane, Plane, float], Plane]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
}


def _pattern(name: str, u: Plane, v: Plane, period: float) -> Plane:
    """A soft-edged pattern in 0..1 with a period in pixels, [64, 64]."""
    turn = np.float32(2 * np.pi / period)
    if name in ("solid", "plain"):
        return np.zeros_like(u)
    if name in ("striped", "stripes"):
        wave, edge = np.sin(turn * u), period / 6.0
    elif name in ("checked", "checks"):
        wave, edge = np.sin(turn * u) * np.sin(turn * v), period / 5.0
    elif name == "waves":
        wave, edge = np.sin(turn * u + np.float32(1.6) * np.sin(turn * np.float32(0.55) * v)), period / 6.0
    else:
        wave, edge = np.cos(turn * u) + np.cos(turn * v) - np.float32(0.75), period / 6.0
    return np.asarray(np.clip(0.5 + edge * wave, 0.0, 1.0), dtype=np.float32)


def _blend(under: NDArray[np.floating], over: NDArray[np.floating], share: Plane) -> NDArray[np.float32]:
    return np.asarray(under + (over - under) * share[..., None], dtype=np.float32)
