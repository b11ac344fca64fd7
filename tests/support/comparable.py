"""A finished run, made by the library and small enough to compare in seconds."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tests.support.worlds import store_at
from usae.activations.sampling import PairedActivations
from usae.activations.store import ActivationStore
from usae.activations.store.manifests import SPLITS, UNTRAINED, Manifest, SplitManifest
from usae.common.layout import Layout
from usae.common.params import Params
from usae.common.tables import Table, no_rows, write_table
from usae.common.variant import Variant
from usae.evidence.controls.names import INDEPENDENT, RUN, SHUFFLED
from usae.evidence.controls.variants import controls, independent
from usae.evidence.estimators import load_estimator
from usae.evidence.metrics.contrast.contrast import Contrasts
from usae.evidence.metrics.contrast.tables import CONTROL_CONCEPTS, STABILITY
from usae.images.pixels.index import Record, write_index
from usae.methods.comparison.compare import compare
from usae.methods.comparison.tables import METHODS
from usae.methods.runs.variants import method_variants
from usae.sae.universal import UniversalSAE
from usae.training.loop.loop import RunOptions, train
from usae.training.stage import save

CPU = torch.device("cpu")
WIDTHS = {"a": 6, "b": 8, "c": 7}
IMAGES, GRID, CAUSES = 48, 3, 5


def finished(root: Path, params: Params, models: Sequence[str]) -> Params:
    """Activations, SAEs and methods of `models` below `root`, as params without nulls ask; these params."""
    params = params.model_copy(update={"models": tuple(models)})
    layout = Layout(root)
    manifests = {model: _extracted(root, model) for model in (*models, *(f"{UNTRAINED}{m}" for m in models))}
    for model, manifest in manifests.items():
        folder = layout.untrained if model.startswith(UNTRAINED) else layout.manifests
        manifest.save(folder / f"{model.removeprefix(UNTRAINED)}.json")
    variants = _folders(params, layout)
    data = PairedActivations({m: each.open("train", root) for m, each in manifests.items()})
    for folder, result in train(variants, manifests, data, params.train, RunOptions(CPU), seed=0).items():
        save(result, Path(folder))
    _measured(params, layout, root)
    return params


def compared(root: Path, params: Params) -> dict[Table, pd.DataFrame]:
    """The tables of stage `compare`, as declared."""
    tables = compare(params, Layout(root), root, CPU)
    for table, frame in tables.items():
        write_table(table, frame, root / f"{table.name}.parquet")
    return tables


def reordered(root: Path, params: Params, models: Sequence[str]) -> Params:
    """The same run with the models in another order: of the params, and in every SAE."""
    layout = Layout(root)
    for config in sorted(root.glob("data/**/config.json")):
        sae = load_estimator(config.parent)
        if sae.models == params.models:
            widths = {model: sae.widths[model] for model in models}
            other = type(sae)(widths, sae.concepts, sae.k, sae.config, sae.levels.ends[:-1])
            other.load_state_dict(sae.state_dict())
            other.save_pretrained(config.parent)
    assert UniversalSAE.from_pretrained(layout.usae).models == tuple(models)
    return params.model_copy(update={"models": tuple(models)})


def numbers(tables: Mapping[Table, pd.DataFrame], *columns: str) -> dict[tuple[str, ...], float]:
    """Values of table `methods` by method, form, run and further columns, "" where one is null."""
    keys = ["method", "form", "run", *columns]
    frame = tables[METHODS].fillna(dict.fromkeys(keys, "")).dropna(subset="value")
    return dict(zip(frame[keys].itertuples(index=False, name=None), frame["value"], strict=True))


def _folders(params: Params, layout: Layout) -> dict[str, Variant]:
    """All SAEs that are compared, by their folders."""
    folders = {layout.usae: Variant(params.k, params.seed, models=params.models)}
    folders |= {layout.controls / SHUFFLED: controls(params, IMAGES)[SHUFFLED]}
    alone = independent(params)
    folders |= {layout.independent(model): alone[f"{INDEPENDENT}{model}"] for model in params.models}
    for method in params.methods.trained:
        folders |= {
            layout.methods / method / run: each for run, each in method_variants(params, method, IMAGES).items()
        }
    return {str(folder): variant for folder, variant in folders.items()}


def _measured(params: Params, layout: Layout, root: Path) -> None:
    """What `compare` reads of stages `images` and `contrast`."""
    layout.images.mkdir(parents=True)
    records = [Record(key=str(image), data=b"", label=None) for image in range(IMAGES)]
    for split in SPLITS:
        write_index(records, layout.images / f"{split}.parquet", None, ())
    whole = Contrasts.load(params, layout, root, CPU)
    few = replace(whole, folders={run: whole.folders[run] for run in (RUN, SHUFFLED)})
    frames = [each.evidence.assign(run=run, start=start) for (start, run), each in few.measured().items()]
    write_table(STABILITY, no_rows(STABILITY), layout.table(STABILITY))
    write_table(CONTROL_CONCEPTS, pd.concat(frames, ignore_index=True), layout.table(CONTROL_CONCEPTS))


def _extracted(root: Path, model: str) -> Manifest:
    """Sparse causes, seen by each model through a map of its own, with a little noise; by an untrained network
    through another one.
    """
    stores = {split: _store(root, model, split) for split in SPLITS}
    manifest = Manifest.generated(model, stores["train"])
    return replace(manifest, val=SplitManifest.of(stores["val"], "generated"))


def _store(root: Path, model: str, split: str) -> ActivationStore:
    slug, number = model.removeprefix(UNTRAINED), int(split == "val")
    causes = np.random.default_rng(number).random((IMAGES, GRID**2, CAUSES)) ** 4
    rng = np.random.default_rng([2, WIDTHS[slug], int(slug != model)])
    rows = causes @ rng.normal(size=(CAUSES, WIDTHS[slug]))
    noise = np.random.default_rng([3, WIDTHS[slug], number]).normal(size=rows.shape)
    return store_at(root / f"{model}-{split}", (rows + 0.05 * noise).astype("float16"), 16)
