"""Agreement layer by layer, where a run reads networks at several layers (stage `report`)."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from usae.showing.figures.theme import MAP, RC, Picture, headline, model_colours, percent

NAME = "depth"


@mpl.rc_context(RC)
def depth_picture(depth: pd.DataFrame) -> Picture:
    """Agreement of every two models, networks in order and their layers from first to last; and its course."""
    order = list(depth.sort_values(["network", "place"], kind="stable")["model"].drop_duplicates())
    course = depth_course(depth)
    claim = depth_claim(course)
    figure = Figure(figsize=(13.0, 0.34 * len(order) + 3.2), layout="constrained")
    headline(figure, claim)
    left, right = figure.subplots(1, 2, width_ratios=[1.0, 1.1])
    matrix = depth.pivot(index="model", columns="other", values="agreement").reindex(index=order, columns=order)
    image = left.imshow(matrix.to_numpy(np.float64), cmap=MAP, vmin=0.0)
    figure.colorbar(image, ax=left, label="agreement", shrink=0.8)
    networks = depth.drop_duplicates("model").set_index("model").loc[order, "network"].to_numpy()
    _names(left, order, np.flatnonzero(networks[1:] != networks[:-1]))
    _lines(right, course)
    note = (
        "Agreement: co-fires over the fires of the model with more, mean over the concepts that fire on at least "
        "20 tokens in both. Layers of one network share what it computed: the lines are means over the models of "
        "other networks alone."
    )
    return Picture(NAME, claim, note, figure)


def depth_course(depth: pd.DataFrame) -> pd.DataFrame:
    """model, network, layer, place, agreement: mean over the models of other networks, of networks read twice."""
    several = depth.groupby("network")["place"].transform("max") > 0
    across = depth[several & (depth["network"] != depth["other_network"])]
    keys = ["network", "place", "layer", "model"]
    return across.groupby(keys, observed=True)[["agreement"]].mean().reset_index()


def depth_claim(course: pd.DataFrame) -> str:
    """Where the networks agree most with others, and least."""
    known = course.dropna(subset="agreement")
    if known.empty:
        return "One network, layer by layer: there is no other to agree with"
    most, least = (known.loc[known["agreement"].agg(which)] for which in ("idxmax", "idxmin"))
    return (
        f"Other networks agree most with {most['model']} ({percent(most['agreement'])} of the fires), "
        f"least with {least['model']} ({percent(least['agreement'])})"
    )


def _names(axes: Axes, models: list[str], ends: np.ndarray) -> None:
    """Slugs on both sides, and a line after the last layer of each network."""
    axes.grid(visible=False)
    axes.tick_params(length=0, labelsize=9)
    axes.spines[:].set_visible(False)
    axes.set_xticks(range(len(models)), models, rotation=90)
    axes.set_yticks(range(len(models)), models)
    for end in ends + 0.5:
        axes.axhline(end, color="white", linewidth=1.5)
        axes.axvline(end, color="white", linewidth=1.5)


def _lines(axes: Axes, course: pd.DataFrame) -> None:
    """One line a network, over its layers."""
    colours = model_colours(list(dict.fromkeys(course["network"])))
    for network, rows in course.groupby("network", sort=False):
        axes.plot(rows["place"], rows["agreement"], "o-", color=colours[str(network)], label=str(network))
    axes.set(
        xlabel="layer, from the first that is read",
        ylabel="agreement with other networks",
        ylim=(0, 1.1 * max(0.1, course["agreement"].max()) if len(course) else 1),
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(course):
        axes.legend()
