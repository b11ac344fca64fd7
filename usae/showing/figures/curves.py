"""Was the SAE trained to the end, and are the backbones more than untrained networks (stage `report`)."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd

from usae.showing.figures.theme import INK, MUTED, RC, Picture, canvas, model_colours, percent, sentence

SMOOTHING_POINTS = 60
FEW_POINTS = 40  # logged steps of a run so short that each is marked
MOST_POINTS = 400  # per line, so that a run of a million steps still makes a small file


@mpl.rc_context(RC)
def loss_picture(training: pd.DataFrame, models: Sequence[str]) -> Picture:
    """Training loss over steps, smoothed: a line per source, one where every step encodes all models."""
    finite = training[np.isfinite(training["loss"])].sort_values("step")
    if finite.empty:
        return sentence("loss", "No training was logged", "Run `dvc repro train` to fill training.parquet.")
    first, last = (float(tenth["loss"].mean()) for tenth in _ends(finite))
    change = abs(last / first - 1) if first else 0.0
    claim = f"The loss {'fell' if last < first else 'rose'} by {percent(change)}, from {first:.3g} to {last:.3g}"
    figure, axes = canvas(claim)
    colours, lines = model_colours(models), dict(list(finite.groupby("source")))
    for source in [*(model for model in models if model in lines), *(set(lines) - set(models))]:
        rows = lines[source]
        smooth = rows["loss"].ewm(span=max(1, len(rows) // SMOOTHING_POINTS)).mean()
        keep = np.unique(np.linspace(0, max(len(rows) - 1, 0), min(MOST_POINTS, len(rows))).astype(int))
        colour = colours.get(source, INK)
        marker = "o" if len(rows) < FEW_POINTS else ""
        axes.plot(
            rows["step"].to_numpy()[keep], smooth.to_numpy()[keep], color=colour, label=source, marker=marker
        )
    axes.set(xlabel="step", ylabel="loss, summed over targets")
    axes.legend(title="encoded model")
    note = (
        "Exponential mean over a sixtieth of the steps; first and last tenth of the steps in the title. The scale "
        "does not begin at 0."
    )
    return Picture("loss", claim, note, figure)


@mpl.rc_context(RC)
def probe_picture(probes: pd.DataFrame, models: Sequence[str]) -> Picture:
    """What linear probes read from the backbones' tokens: trained against untrained networks."""
    probed = probes.dropna(subset=["auc_trained", "auc_untrained"]) if len(probes) else probes
    if probed.empty:
        text = "Probes need known attributes (the generated world has them) and labelled images with both values."
        return sentence("probes", "No attribute could be probed", text)
    better = int((probed["auc_trained"] > probed["auc_untrained"]).sum())
    trained, untrained = probed["auc_trained"].median(), probed["auc_untrained"].median()
    claim = (
        f"Linear probes read {better} of {len(probed)} attributes better from trained than from untrained "
        f"networks: median AUC {trained:.2f} against {untrained:.2f}"
    )
    attributes = probed.groupby("attribute", sort=False)[["auc_trained", "auc_untrained"]].median()
    figure, axes = canvas(claim, height=2.2 + 0.26 * len(attributes))
    heights, of = range(len(attributes)), dict(zip(attributes.index, range(len(attributes)), strict=True))
    axes.hlines(heights, attributes["auc_untrained"], attributes["auc_trained"], color=MUTED, linewidth=1.2)
    for model, colour in model_colours(models).items():
        rows = probed[probed["model"] == model]
        axes.plot(rows["auc_trained"], rows["attribute"].map(of), "o", color=colour, markersize=4.5, label=model)
    axes.plot(attributes["auc_untrained"], heights, "|", color=INK, markersize=10, markeredgewidth=1.8,
              label="untrained networks, median")  # fmt: skip
    axes.axvline(0.5, color=MUTED, linestyle="--", linewidth=1.2, label="chance")
    axes.set_yticks(heights, attributes.index)
    axes.set(xlabel="AUC of a linear probe on held-out tokens", ylim=(len(attributes) - 0.5, -0.5))
    axes.grid(visible=False, axis="y")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    note = (
        "Points are trained networks, one per model; the line ends at their median. Colour is nearly linear in "
        "the pixels: untrained networks keep it."
    )
    return Picture("probes", claim, note, figure)


def _ends(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The first and the last tenth of the rows."""
    tenth = max(1, len(frame) // 10)
    return frame.head(tenth), frame.tail(tenth)
