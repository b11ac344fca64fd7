"""Horizontal bars of a few labelled values, one colour per series (stage `report`)."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np

from usae.figures.theme import OKABE_ITO, RC, Picture, canvas

BAR_INCHES = 0.16
MOST_SERIES = 8


@mpl.rc_context(RC)
def bar_picture(
    name: str, claim: str, note: str, labels: Sequence[str], series: Mapping[str, Sequence[float]], unit: str
) -> Picture:
    """One group of bars per label, from the top down, one bar per series; undefined values have no bar."""
    shown = dict(list(series.items())[:MOST_SERIES])
    rows = np.arange(len(labels), dtype=float)
    thick = 0.8 / max(len(shown), 1)
    figure, axes = canvas(claim, height=1.6 + BAR_INCHES * len(labels) * (len(shown) + 1))
    for place, (label, values) in enumerate(shown.items()):
        offset = (place - (len(shown) - 1) / 2) * thick
        axes.barh(rows + offset, np.nan_to_num(values), thick * 0.9, label=label, color=OKABE_ITO[place])
    axes.set_yticks(rows, labels)
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.grid(visible=False, axis="y")
    if len(shown) > 1:
        axes.legend()
    return Picture(name, claim, note, figure)
