"""Seven questions to a finished run, a few lines each.

marimo edit notebooks/concepts.py     # in a browser, from the repository's root; $USAE_RUN is another run's root,
                                      # $USAE_PICTURE your picture, $USAE_OTHER the root of a run to compare with
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

    import usae
    from usae import Run
    from usae.common.numerics.matching import concatenated, matching, random_matching
    from usae.showing.figures.chosen_concepts import heatmap_picture

    run = Run.load(os.environ.get("USAE_RUN", "."))
    tables, models = run.reports, list(run.params.models)
    return (
        Run,
        concatenated,
        heatmap_picture,
        matching,
        mo,
        models,
        np,
        os,
        pd,
        random_matching,
        run,
        tables,
        usae,
    )


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


@app.cell
def _(mo):
    mo.md("## 6. Which concepts does a picture of mine switch on, in each model?")
    return


@app.cell
def _(mo, models, os, pd, run, tables, usae):
    picture = os.environ.get("USAE_PICTURE")  # or its path, here
    mo.stop(picture is None, mo.md("Set `$USAE_PICTURE` to a picture, or write its path into this cell."))
    where = run.root / "data/usae"
    codes = {name: usae.encode_images(name, [picture], where)[0] for name in models}
    sums = pd.DataFrame({name: each.top(each.indices.numel()) for name, each in codes.items()}).fillna(0.0)
    seen = sums.loc[
        sums.min(axis=1).sort_values(ascending=False, kind="stable").index
    ]  # first what all models see
    seen = seen.join(tables["concepts"].set_index("concept_id")["top_label"])
    seen.head(10)
    return picture, seen, where


@app.cell
def _(mo, models, picture, seen, usae, where):
    maps = {name: usae.heatmap(picture, int(seen.index[0]), name, where) for name in models}
    mo.hstack([mo.vstack([name, each.overlay()]) for name, each in maps.items()])
    return (maps,)


@app.cell
def _(mo):
    mo.md("## 7. What is different in another run, and which concepts do both have?")
    return


@app.cell
def _(Run, mo, os, pd, run):
    folder = os.environ.get("USAE_OTHER")  # or the root of another finished run, here
    mo.stop(folder is None, mo.md("Set `$USAE_OTHER` to the root of another run, or write it into this cell."))
    other = Run.load(folder)
    settings = pd.concat(
        [pd.json_normalize(each.params.model_dump()).iloc[0] for each in (run, other)],
        axis=1,
        keys=["this", "other"],
    )
    changed = settings[settings["this"].map(repr) != settings["other"].map(repr)]
    changed
    return changed, other


@app.cell
def _(other, pd, run):
    numbers = pd.concat(
        [each.reports["summary"].set_index("name")["value"] for each in (run, other)],
        axis=1,
        keys=["this", "other"],
    )
    numbers["difference"] = numbers["other"] - numbers["this"]
    numbers.dropna().round(3)
    return (numbers,)


@app.cell
def _(concatenated, matching, mo, models, np, other, pd, random_matching, run, sae):
    # Only dictionaries of the same activations can be compared: models of one name and width.
    theirs = other.usae()
    both = [name for name in models if theirs.widths.get(name) == sae.widths[name]]
    mo.stop(not both, mo.md("The two runs have no model in common."))
    rows = [concatenated([each.dictionary(name).detach().numpy() for name in both]) for each in (sae, theirs)]
    partner, cosine = matching(*rows)
    by_chance = float(np.mean(random_matching(*rows[0].shape, run.params.seed)))
    found_again = pd.DataFrame({"concept": range(len(partner)), "in_other": partner, "cosine": cosine})
    mo.md(f"Mean matched cosine {np.nanmean(cosine):.2f}; of random directions {by_chance:.2f}.")
    return by_chance, found_again


@app.cell
def _(found_again):
    found_again.sort_values("cosine", ascending=False).head(10)
    return


if __name__ == "__main__":
    app.run()
