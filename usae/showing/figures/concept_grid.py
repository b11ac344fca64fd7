"""The picture of what is shared: concepts on their best images, seen through every model (stage `report`)."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from usae.showing.figures.heat import heat_rgba, overlay
from usae.showing.figures.theme import INK, RC, Picture, headline, model_colours, percent, sentence
from usae.showing.results.examples import ConceptExample

NAME = "concepts"
GAP = 4  # pixels between tiles
TILE_INCHES, LABEL_INCHES, TITLE_INCHES = 0.82, 1.4, 0.5


def grid_picture(
    examples: Sequence[ConceptExample], pictures: Sequence[np.ndarray], titles: Sequence[str]
) -> Picture:
    """One block per concept: images in columns, one row of images, then one heatmap row per model.

    Shapes: pictures, one per example, [n, side, side, 3] uint8.
    """
    blocks = [block for block in zip(examples, pictures, titles, strict=True) if block[0].images]
    if not blocks:
        text = "No concept fires on enough tokens in all models. Train longer, or look at the loss curves."
        return sentence(NAME, "There is no shared concept to show", text)
    claim = overlap_claim([example for example, _, _ in blocks])
    note = (
        "Each column is one held-out image. Bright cells carry the model's code for the concept; "
        "every model's row has its own scale, from 0 to its largest code here."
    )
    return Picture(NAME, claim, note, _draw(blocks, claim))


def overlap_claim(examples: Sequence[ConceptExample]) -> str:
    """How far the models agree on where the shown concepts are, counted on the shown images."""
    fired = [example.codes > 0 for example in examples]  # each (models, images, rows, columns)
    all_fire = sum(int(cells.all(axis=0).sum()) for cells in fired)
    any_fires = sum(int(cells.any(axis=0).sum()) for cells in fired)
    models = len(examples[0].models)
    share = percent(all_fire / any_fires if any_fires else 0.0)
    return f"All {models} models see these concepts in {share} of the {any_fires:,} cells where any of them does"


def mosaic(example: ConceptExample, pictures: np.ndarray) -> np.ndarray:
    """The block of one concept as an image on white: ((1 + m) rows, n columns of tiles, GAP apart)."""
    heats = [
        [heat_rgba(codes, example.peak(model)) for codes in model_codes]
        for model, model_codes in zip(example.models, example.codes, strict=True)
    ]
    rows = [list(pictures), *([overlay(*pair) for pair in zip(pictures, row, strict=True)] for row in heats)]
    side = pictures.shape[1]
    canvas = np.full((len(rows) * (side + GAP) - GAP, len(pictures) * (side + GAP) - GAP, 3), 255, np.uint8)
    for row, tiles in enumerate(rows):
        for column, tile in enumerate(tiles):
            top, left = row * (side + GAP), column * (side + GAP)
            canvas[top : top + side, left : left + side] = tile
    return canvas


@mpl.rc_context(RC)
def _draw(blocks: Sequence[tuple[ConceptExample, np.ndarray, str]], claim: str) -> Figure:
    columns = min(2, len(blocks))
    rows = -(-len(blocks) // columns)
    most = max(len(example.images) for example, _, _ in blocks)
    width = columns * (TILE_INCHES * most + LABEL_INCHES)
    height = rows * (TILE_INCHES * (1 + len(blocks[0][0].models)) + TITLE_INCHES) + TITLE_INCHES
    figure = Figure(figsize=(width, height), layout="constrained")
    headline(figure, claim)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for block_axes, block in zip(axes, blocks, strict=False):
        _block(block_axes, *block)
    for empty in axes[len(blocks) :]:
        empty.set_axis_off()
    return figure


def _block(axes: Axes, example: ConceptExample, pictures: np.ndarray, title: str) -> None:
    axes.imshow(mosaic(example, pictures), interpolation="nearest")
    side = pictures.shape[1]
    axes.set_yticks(
        [side / 2 + row * (side + GAP) for row in range(1 + len(example.models))], ["image", *example.models]
    )
    for label, colour in zip(axes.get_yticklabels(), [INK, *model_colours(example.models).values()], strict=True):
        label.set_color(colour)
        label.set_fontweight("bold")
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=11, fontweight="normal", pad=6)
