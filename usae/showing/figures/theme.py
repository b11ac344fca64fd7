"""The look that all figures share, and how they are written (stage `report`).

Colours are Okabe and Ito's, one per model by its position in `models`; continuous quantities, and more than eight
models, use perceptually uniform maps. Figures are built without pyplot, so nothing global changes, and the files
carry no date: same data, same bytes.
"""

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from usae.common.files.whole import write_output
from usae.common.runtime.parallel import side_by_side

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B8A800")
INK, MUTED, RULE, PAPER = "#1d232b", "#5c6670", "#d5d9de", "#ffffff"
MAP = "viridis"
MISSING = "\u2013"  # an en dash, where a number is not defined
CHARACTERS_PER_INCH = 8.8  # of a bold title of 13 points
RC: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 12,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "figure.facecolor": PAPER,
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 11,
    "lines.linewidth": 2.0,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "path",
    "svg.hashsalt": "usae",
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
}
DPI = 150
MOST_DECADES = 1e3  # last over first value of an axis whose ticks have room for 2 and 5
LineStyle = Literal["-", "--", ":", "-."]


@dataclass(frozen=True)
class Picture:
    """A figure with the sentence it proves, and what to know when reading it. drawn: it is more than sentences."""

    name: str
    claim: str
    note: str
    figure: Figure
    drawn: bool = True

    def under(self, claim: str) -> "Picture":
        """The same figure under another sentence."""
        with mpl.rc_context(RC):
            headline(self.figure, claim)
        return replace(self, claim=claim)

    def save(self, folder: Path) -> tuple[Path, Path]:
        """Write `folder/<name>.svg` and `.png`; the same figure gives the same bytes."""
        svg, png = folder / f"{self.name}.svg", folder / f"{self.name}.png"
        with mpl.rc_context(RC):
            write_output(svg, self._drawn("svg", metadata={"Date": None, "Creator": None}))
            write_output(png, self._drawn("png", dpi=DPI, metadata={"Software": None}))
        return svg, png

    @staticmethod
    def save_all(pictures: Sequence["Picture"], folder: Path) -> dict[str, Path]:
        """Write all of them, side by side; returns the SVG file of each by name."""
        saved = side_by_side(lambda picture: picture.save(folder)[0], pictures, torch.device("cpu"))
        return dict(zip([picture.name for picture in pictures], saved, strict=True))

    def _drawn(self, kind: str, **settings: Any) -> bytes:
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format=kind, **settings)
        return buffer.getvalue()


def model_colours(models: Sequence[str]) -> dict[str, str]:
    """One colour per model by slug order; of more than eight, along a perceptual map."""
    if len(models) > len(OKABE_ITO):
        steps = mpl.colormaps[MAP](np.linspace(0, 0.75, len(models)))
        return {model: to_hex(step) for model, step in zip(models, steps, strict=True)}
    return {model: OKABE_ITO[slot] for slot, model in enumerate(models)}


def canvas(claim: str, width: float = 7.0, height: float = 4.4) -> tuple[Figure, Axes]:
    """A figure with one set of axes under its claim."""
    figure = Figure(figsize=(width, height), layout="constrained")
    headline(figure, claim)
    return figure, figure.add_subplot()


def headline(figure: Figure, claim: str) -> None:
    """The claim above everything, left-aligned, as wide as the figure."""
    text = wrapped(claim, float(figure.get_figwidth()))
    figure.suptitle(text, x=0.01, ha="left", fontweight="bold", fontsize=13)


@mpl.rc_context(RC)
def sentence(name: str, claim: str, text: str) -> Picture:
    """In place of a figure without data: what is missing and which command brings it."""
    figure, axes = canvas(claim, height=2.2)
    axes.set_axis_off()
    axes.text(0.01, 0.5, wrapped(text, 7.0), transform=axes.transAxes, va="center", color=MUTED, fontsize=12)
    return Picture(name, claim, text, figure, drawn=False)


def wrapped(text: str, width: float) -> str:
    """Break a title where the figure, `width` inches wide, ends."""
    return textwrap.fill(text.replace(" %", "\u00a0%"), int(width * CHARACTERS_PER_INCH))


def style_line(style: LineStyle, label: str) -> Line2D:
    """An entry of a legend for what a line style means, whatever the colour."""
    return Line2D([], [], color=INK, linestyle=style, linewidth=1.4, label=label)


def style_marker(marker: str, label: str) -> Line2D:
    """An entry of a legend for what a marker means, whatever the colour."""
    return Line2D([], [], color=INK, linestyle="", marker=marker, label=label)


def plain_decades(axis: Axis) -> None:
    """Logarithmic ticks as 1, 2, 5, 10, 20, not as powers; over more than three decades 1, 10, 100."""
    low, high = axis.get_view_interval()
    steps = (1.0,) if high > MOST_DECADES * low else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=steps, numticks=8))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))


def percent(share: float) -> str:
    """0.314 -> '31 %'; one decimal where whole percents would say too little (0.998 is not '100 %')."""
    value = 100 * share
    return f"{value:.1f} %" if 0 < abs(value) < 9.95 or 99 < value < 100 else f"{value:.0f} %"


def explained(r2: float) -> str:
    """What codes explain: 0.314 -> '31 %'; below 0 a share would have no meaning."""
    return percent(r2) if r2 >= 0 else f"less than the mean does (R² \u2212{-r2:.2f})"
