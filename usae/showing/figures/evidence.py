"""More than accident? Co-firing against re-paired images, dictionaries against random ones (stage `report`)."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd

from usae.evidence.controls.names import RUN, TWIN, beside_controls
from usae.showing.figures.theme import (
    INK,
    MUTED,
    OKABE_ITO,
    RC,
    LineStyle,
    Picture,
    canvas,
    model_colours,
    percent,
    plain_decades,
    sentence,
    style_line,
)

NULL = "images"
MOST = 1000  # points drawn one by one; more are an image inside the SVG
FLOOR = 0.5  # co-fires, where none would have no place on a logarithmic axis
THRESHOLDS = np.linspace(0, 1, 201)
AGAIN = "Run `dvc repro measure` to write it."


@mpl.rc_context(RC)
def null_picture(nulls: pd.DataFrame, models: Sequence[str]) -> Picture:
    """Co-fires of all models against their mean over re-paired images, one point per concept."""
    rows = nulls[(nulls["null"] == NULL) & (nulls["models"] == "+".join(models))] if len(nulls) else nulls
    if rows.empty:
        return sentence("nulls", "No concept fires in all models", f"Table nulls has no row for them. {AGAIN}")
    above = rows["significant"].to_numpy(dtype=bool)
    claim = (
        f"{above.sum():,} of {len(rows):,} concepts ({percent(float(above.mean()))}) pass step significant: they "
        "co-fire in all models more often than with any one model re-paired"
    )
    figure, axes = canvas(claim)
    expected, cofires = (np.maximum(rows[name].to_numpy(np.float64), FLOOR) for name in ("null_mean", "cofires"))
    for chosen, colour, label in ((~above, MUTED, "not significant"), (above, OKABE_ITO[0], "significant")):
        axes.scatter(
            expected[chosen],
            cofires[chosen],
            color=colour,
            label=label,
            s=14,
            linewidths=0,
            alpha=0.8,
            rasterized=len(rows) > MOST,
        )
    ends = [FLOOR, max(float(cofires.max()), float(expected.max()))]
    axes.plot(ends, ends, color=INK, linestyle="--", linewidth=1.2)
    axes.set(xscale="log", yscale="log", xlabel="co-fires with one model re-paired, mean", ylabel="co-fires")
    plain_decades(axes.xaxis)
    plain_decades(axes.yaxis)
    axes.legend(title="false discovery rate 5 %", loc="lower right")
    note = (
        "One model at a time gets other images, tokens keep their positions; the model that costs the fewest "
        "co-fires is drawn. On the dashed line the co-fires need only the other models to agree; values below "
        f"{FLOOR:g} are drawn there."
    )
    return Picture("nulls", claim, note, figure)


@mpl.rc_context(RC)
def consistency_picture(consistency: pd.DataFrame, models: Sequence[str]) -> Picture:
    """Share of matched cosines above a threshold, per model, with its Gaussian baseline (paper's consistency)."""
    own = beside_controls(set(consistency["sae"])) if len(consistency) else RUN
    lines = {model: _cosines(consistency, model, own) for model in models if len(consistency)}
    measured = {model: cosines for model, cosines in lines.items() if cosines.size}
    if not measured:
        return sentence("consistency", "There is no independent SAE to compare with", f"Table is empty. {AGAIN}")
    starts = {model: _cosines(consistency, model, sae="start") for model in measured}
    floors = {model: _cosines(consistency, model, against="gaussian") for model in measured}
    start = f"before the first step {_mean(starts):.2f}, " if any(part.size for part in starts.values()) else ""
    claim = (
        f"Matched with an independent SAE's, the concepts have a mean cosine of {_mean(measured):.2f}; {start}"
        f"random dictionaries {_mean(floors):.2f}{_same_start(consistency)}"
    )
    figure, axes = canvas(claim)
    colours = model_colours(models)
    for model, cosines in measured.items():
        axes.plot(THRESHOLDS, _share_above(cosines), color=colours[model], label=model)
        for cosines_beside, style in ((starts[model], "--"), (floors[model], ":")):
            if cosines_beside.size:
                axes.plot(THRESHOLDS, _share_above(cosines_beside), style, color=colours[model], linewidth=1.4)
    axes.set(xlabel="cosine", ylabel="share of concepts matched better", xlim=(0, 1), ylim=(0, 1.02))
    beside: dict[LineStyle, tuple[dict[str, np.ndarray], str]] = {
        "--": (starts, "before the first step"),
        ":": (floors, "random dictionaries"),
    }
    styles = [style_line(style, text) for style, (parts, text) in beside.items() if any(map(len, parts.values()))]
    axes.legend(handles=[*axes.get_legend_handles_labels()[0], *styles])
    note = (
        "Directions are less the mean token's. The random dictionaries have the same number of concepts and the "
        "same width. Negative cosines count as 0 in the means."
    )
    if own == TWIN:
        note += " For the universal SAE stands its twin, which was trained as little as the independent ones."
    return Picture("consistency", claim, note, figure)


def _cosines(table: pd.DataFrame, model: str, sae: str = RUN, against: str = "independent") -> np.ndarray:
    rows = table[(table["model"] == model) & (table["sae"] == sae) & (table["against"] == against)]
    return rows["cosine"].dropna().to_numpy(dtype=np.float64)


def _mean(cosines: Mapping[str, np.ndarray]) -> float:
    """Over models, of the mean cosine, negative ones as 0."""
    return float(np.mean([np.clip(values, 0, 1).mean() for values in cosines.values() if values.size]))


def _same_start(table: pd.DataFrame) -> str:
    """A caution, where most partners have the concept's own number: random starts would not number alike."""
    matched = table[(table["against"] == "independent") & (table["sae"] == RUN)]
    share = float((matched["partner"] == matched["concept_id"]).mean())
    return f". Not evidence: {percent(share)} keep their number, both SAEs started alike" if share > 0.5 else ""


def _share_above(cosines: np.ndarray) -> np.ndarray:
    """(thresholds,) share of the cosines above each."""
    ranked = np.sort(cosines)
    return np.asarray(1 - np.searchsorted(ranked, THRESHOLDS, side="right") / max(len(ranked), 1))
