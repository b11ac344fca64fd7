"""What the figures of stage `compare` have in common: one colour per block, one order, labels that keep apart."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from usae.showing.figures.theme import MUTED, OKABE_ITO, Picture, sentence
from usae.showing.results.compared import BOUNDS, FITTED, JOINT, PUBLISHED, Compared, ComparedMethod

BLOCK_COLOURS = {BOUNDS: MUTED, FITTED: OKABE_ITO[2], JOINT: OKABE_ITO[0], PUBLISHED: OKABE_ITO[3]}
REPAIRED_COLOUR, RANDOM_COLOUR = OKABE_ITO[1], OKABE_ITO[4]
ROW = 0.34  # inches per method in a figure with a row for each
COMMAND = "Run `dvc repro compare` to measure other methods on the same activations."


def colour_of(method: ComparedMethod) -> str:
    """The colour of its block."""
    return BLOCK_COLOURS[method.block]


def nothing(name: str, claim: str) -> Picture:
    """In place of a figure for which no method was compared."""
    return sentence(name, claim, COMMAND)


def having(compared: Compared, measures: Sequence[str]) -> list[ComparedMethod]:
    """The methods of which one of these numbers is there, after training."""
    return [
        each
        for each in compared.methods
        if any(np.isfinite(compared.value(each, measure)) for measure in measures)
    ]


def block_legend(methods: Sequence[ComparedMethod]) -> list[Line2D]:
    """A dot for each block that occurs."""
    blocks = [block for block in BLOCK_COLOURS if any(each.block == block for each in methods)]
    return [Line2D([], [], marker="o", linestyle="", color=BLOCK_COLOURS[block], label=block) for block in blocks]


def name_rows(axes: Axes, methods: Sequence[ComparedMethod]) -> None:
    """Each method's name at its height, the first on top, and a line wherever a block ends."""
    axes.set_yticks(range(len(methods)), [each.label for each in methods])
    axes.set_ylim(len(methods) - 0.4, -0.6)
    part_blocks(axes, methods)


def part_blocks(axes: Axes, methods: Sequence[ComparedMethod]) -> None:
    """A line wherever a block ends."""
    for height, (above, below) in enumerate(pairwise(methods)):
        if above.block != below.block:
            axes.axhline(height + 0.5, color=MUTED, linewidth=0.8)


def apart(heights: Sequence[float], gap: float, low: float, high: float) -> np.ndarray:
    """Where labels of points at these heights stand: in the same order, `gap` apart, between `low` and `high`.

    Where there is no room for that gap, as far apart as there is.
    """
    order = np.argsort(np.asarray(heights), kind="stable")
    gap = min(gap, (high - low) / max(len(order) - 1, 1))
    places = np.asarray(heights, dtype=np.float64)[order]
    steps = gap * np.arange(len(order))
    up = np.maximum.accumulate(np.maximum(places, low) - steps) + steps
    down = np.minimum.accumulate((np.minimum(up, high) + steps[::-1])[::-1])[::-1] - steps[::-1]
    moved = np.empty(len(order))
    moved[order] = down
    return moved
