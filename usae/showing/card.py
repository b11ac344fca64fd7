"""A model card of a finished run: what the SAE is of, what it reaches, and what stands beside that.

sae.push_to_hub("user/name", card=usae.model_card())   # the run in this folder
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from usae.evidence.verdict.levels import is_readable, verdict_line
from usae.showing.results.run import Run

HEAD = """---
library_name: usae
tags: [sparse-autoencoder, interpretability, vision]
---
# Universal sparse autoencoder of {models}

{verdict}.

{concepts} concepts, {k} codes per token, one dictionary for each model. Method: [arXiv 2502.03714](https://arxiv.org/abs/2502.03714).

```python
import usae

sae = usae.UniversalSAE.from_pretrained("USER/NAME")
codes = usae.encode_images("{first}", ["dog.jpg"], sae="USER/NAME")
```
"""
FOOT = """
A dictionary is made of the activations of these networks on these images: their licences decide about its use.
"""


def model_card(root: str | Path = ".") -> str:
    """The card of the run in `root`, in Markdown; USER/NAME stands for the repository's name.

    Raises:
        UserError: there is no finished run.
    """
    run = Run.load(root)
    sae, models = run.usae(), run.params.models
    head = HEAD.format(
        models=", ".join(models),
        verdict=verdict_line(run.reports["verdict"]),
        concepts=sae.concepts,
        k=sae.k,
        first=models[0],
    )
    reports = run.reports
    funnel = _funnel(reports["funnel"], is_readable(reports["verdict"]))
    parts = (head, _networks(run), _images(run), _r2(reports["reconstruction"], models), funnel)
    return "\n".join([*filter(None, parts), FOOT])


def _networks(run: Run) -> str:
    entries = {model: run.params.zoo[model] for model in run.params.models}
    rows = [
        (model, entry.backbone.timm or str(entry.backbone.factory), entry.backbone.weights, entry.layer)
        for model, entry in entries.items()
    ]
    return _section("Models", ("model", "network", "weights", "layer"), rows)


def _images(run: Run) -> str:
    source, grid = run.params.images.source, run.params.extract.grid
    return f"## Data\n\nHeld-out images: {len(run.index)} (source: {source}), {grid} x {grid} tokens each.\n"


def _r2(table: pd.DataFrame, models: Sequence[str]) -> str:
    """Of held-out images, by source and target."""
    held_out = table[(table["sae"] == "usae") & (table["split"] == "val")]
    r2 = held_out.set_index(["source", "target"])["r2_channel"]
    rows = [(source, *(f"{r2[source, target]:.2f}" for target in models)) for source in models]
    title = "Explained variance of held-out activations, by the model whose codes explain (rows)"
    return _section(title, ("codes of", *models), rows)


def _funnel(table: pd.DataFrame, readable: bool) -> str:
    """Concepts that pass each step, of the SAE, its start and its controls; not where they may not be read."""
    if table.empty or not readable:
        return ""
    whole = table[table["level"].isna()]
    names = whole["run"].where(~whole["start"].astype(bool), whole["run"] + ", before its first step")
    counts = whole.assign(name=names).pivot_table(index="name", columns="step", values="concepts", sort=False)
    rows = [
        (name, *("" if pd.isna(each) else f"{each:.0f}" for each in row)) for name, *row in counts.itertuples()
    ]
    return _section("Concepts that pass each step, and those of controls", ("SAE", *counts.columns), rows)


def _section(title: str, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join([f"## {title}", "", *(f"| {' | '.join(map(str, line))} |" for line in lines), ""])
