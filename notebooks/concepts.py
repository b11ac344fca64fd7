"""Five questions to a finished run, a few lines each.

marimo edit notebooks/concepts.py     # in a browser, from the repository's root; $USAE_RUN is another run's root
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Concepts of a run")


@app.cell
def _():
    import os

    import marimo as mo
    import numpy as np
    import pandas as pd

    from usae import Run
    from usae.showing.figures.chosen_concepts import heatmap_picture

    run = Run.load(os.environ.get("USAE_RUN", "."))
    tables, models = run.reports, list(run.params.models)
    return mo, models, np, pd, heatmap_picture, run, tables


@app.cell
def _(mo):
    mo.md("## 1. How well do one model's codes explain another?")
    return


@app.cell
def _(models, tables):
    held_out = tables["reconstruction"].query("sae == 'usae' and split == 'val'")
    r2 = held_out.pivot(index="source", columns="target", values="r2_channel").loc[models, models]
    r2.round(2)
    return (r2,)


@app.cell
def _(mo):
    mo.md("## 2. Which concepts do all models share, and how much more often than chance?")
    return


@app.cell
def _(tables):
    columns = ["concept_id", "top_label", "cofire_proportion_min", "cofires", "lift"]
    shared = tables["concepts"].sort_values("cofire_proportion_min", ascending=False)[columns].head(10)
    shared
    return (shared,)


@app.cell
def _(mo):
    mo.md("## 3. Which concepts belong to one model?")
    return


@app.cell
def _(tables):
    fires = tables["concept_models"].pivot(index="concept_id", columns="model", values="fires")
    own = fires[fires.sum(axis=1) >= 50]
    own = own.assign(share=own.max(axis=1) / own.sum(axis=1)).sort_values("share", ascending=False).head(10)
    own
    return (own,)


@app.cell
def _(mo):
    mo.md("## 4. Where on its best image does a model see a concept?")
    return


@app.cell
def _(np, run, models, shared):
    concept, model = int(shared["concept_id"].iloc[0]), models[0]
    best = run.reports["exemplars"].query("concept_id == @concept and ranking == @model and rank == 0")
    image = int(best["image"].iloc[0])
    stored = run.codes[model].read([image])
    grid = run.codes[model].grid
    heatmap = np.where(stored.indices == concept, stored.values, 0).sum(axis=-1).reshape(grid, grid)
    heatmap.round(2)
    return concept, heatmap, image, model


@app.cell
def _(concept, heatmap_picture, run):
    heatmap_picture(run, [concept]).figure
    return


@app.cell
def _(mo):
    mo.md("## 5. Which concepts point the same way as this one, in each model?")
    return


@app.cell
def _(concept, models, pd, run):
    sae = run.usae()
    near = {}
    for name in models:
        dictionary = sae.dictionary(name).detach()  # (concepts, width), unit rows
        cosines = pd.Series((dictionary @ dictionary[concept]).numpy()).drop(concept)
        near[name] = [f"{other} ({cosine:.2f})" for other, cosine in cosines.nlargest(5).items()]
    neighbours = pd.DataFrame(near)
    neighbours
    return neighbours, sae


if __name__ == "__main__":
    app.run()
