"""What a crosscoder's dictionary shares by its norms, and what really fires (stage `report`).

From table `method_sharing` of stage `compare`.
"""

from itertools import product

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from usae.showing.figures.method_style import nothing
from usae.showing.figures.theme import MAP, MUTED, RC, Picture, headline

NAME = "method_sharing"
LEAST_SHARED = 0.6  # of an equal share, in every model: shared
OWNED = 0.9  # of all norms, in some of the models: exclusive to them
STILL_THERE = 0.5  # nu_eps above which a model still holds what its decoder leaves out
RUN_NAMES = {
    "run": "after training",
    "start": "before the first step",
    "shuffled": "trained on re-paired images",
    "untrained": "on untrained networks",
}


@mpl.rc_context(RC)
def sharing_picture(sharing: pd.DataFrame) -> Picture:
    """Each latent in each model: its share of the norms against its share of the fires, coloured by nu_eps."""
    if sharing.empty:
        return nothing(NAME, "There is no crosscoder whose norms could be compared")
    claim = _claim(sharing)
    table = with_shares(sharing)
    methods, runs = (list(dict.fromkeys(table[column])) for column in ("method", "run"))
    figure = Figure(figsize=(1.6 + 3.6 * len(runs), 1.6 + 3.3 * len(methods)), layout="constrained")
    headline(figure, claim)
    grid = figure.subplots(len(methods), len(runs), sharex=True, sharey=True, squeeze=False)
    for axes, (method, run) in zip(grid.ravel(), product(methods, runs), strict=True):
        points = _panel(axes, table[(table["method"] == method) & (table["run"] == run)])
        axes.set_title(f"{method}, {RUN_NAMES.get(run, run)}")
    figure.supxlabel("share of the norms", fontsize=12)
    figure.supylabel("share of the fires, single codes", fontsize=12)
    figure.colorbar(points, ax=list(grid.ravel()), label="nu_eps: still in the activations", shrink=0.9)
    note = (
        "A point is a latent in one model; the line is where norms and fires agree. Norms start equal, so sharing "
        "by norms is the bias of the start until training moves them: compare with the panel before the first "
        f"step. Shared: at least {LEAST_SHARED} of an equal share in every model. Exclusive: {OWNED} of the norms "
        "in fewer than all models. nu_eps near 1 in a model without norm: the concept is there, its row shrank."
    )
    return Picture(NAME, claim, note, figure)


def with_shares(sharing: pd.DataFrame) -> pd.DataFrame:
    """The table with `fire_share`: a model's share of a latent's fires; NaN of one that never fires."""
    total = sharing.groupby(["method", "run", "concept_id"])["fires"].transform("sum")
    return sharing.assign(fire_share=sharing["fires"] / total.where(total > 0))


def sharing_counts(sharing: pd.DataFrame) -> pd.DataFrame:
    """By method and run: latents that the norms share, that are exclusive to some models, and neither.

    Columns method, run, latents, shared, exclusive, between, still_there; the last: exclusive ones that a model
    outside still holds in its activations (largest nu_eps there above STILL_THERE).
    """
    if sharing.empty:
        return pd.DataFrame()
    groups = sharing.groupby(["method", "run"], sort=False)
    return pd.DataFrame([{"method": method, "run": run} | _counted(rows) for (method, run), rows in groups])


def _counted(rows: pd.DataFrame) -> dict[str, int]:
    norms, nu = (
        rows.pivot(index="concept_id", columns="model", values=name).to_numpy(dtype=np.float64)
        for name in ("relative_norm", "nu_eps")
    )  # (latents, models)
    norms, nu = norms[np.isfinite(norms).all(axis=1)], nu[np.isfinite(norms).all(axis=1)]
    shared = (norms.shape[1] * norms).min(axis=1, initial=np.inf) >= LEAST_SHARED
    order = np.argsort(-norms, axis=1, kind="stable")
    before = np.cumsum(np.take_along_axis(norms, order, axis=1), axis=1)
    owners = 1 + (before < OWNED).sum(axis=1)  # models that hold OWNED of the norms together, the fewest
    exclusive = (owners < norms.shape[1]) & ~shared
    outside = np.arange(norms.shape[1]) >= owners[:, None]
    held = np.where(outside, np.take_along_axis(nu, order, axis=1), -np.inf).max(axis=1, initial=-np.inf)
    return {
        "latents": len(norms),
        "shared": int(shared.sum()),
        "exclusive": int(exclusive.sum()),
        "between": int((~shared & ~exclusive).sum()),
        "still_there": int((exclusive & (held > STILL_THERE)).sum()),
    }


def _claim(sharing: pd.DataFrame) -> str:
    counts = sharing_counts(sharing)
    after = counts[counts["run"] == "run"]
    if after.empty:
        return "What the norms of a crosscoder share"
    row = after.iloc[0]
    claim = (
        f"By its norms {row['method']} shares {row['shared']:,} of {row['latents']:,} latents and keeps "
        f"{row['exclusive']:,} to some models, {row['still_there']:,} of which the others still hold"
    )
    before = counts[(counts["run"] == "start") & (counts["method"] == row["method"])]
    return f"{claim}; before the first step it shares {before.iloc[0]['shared']:,}" if len(before) else claim


def _panel(axes: Axes, rows: pd.DataFrame) -> PathCollection:
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1.0, linestyle=":")
    points = axes.scatter(
        rows["relative_norm"], rows["fire_share"], c=rows["nu_eps"].astype(float), s=14, alpha=0.8, cmap=MAP,
        vmin=0, vmax=1, linewidths=0, rasterized=True, plotnonfinite=True,
    )  # fmt: skip
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    return points
