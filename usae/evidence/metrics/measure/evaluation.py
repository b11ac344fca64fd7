"""All that stage `measure` does: read codes, activations and labels of the held-out images, write the reports.

Universal concepts are measured on split `val`; reconstruction also on the encoded part of `train`, and for the
independent SAEs where `encode` has written their codes (`data/codes/<split>/independent/<model>`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from usae.activations.store import ActivationStore
from usae.activations.store.manifests import Manifest, load_manifests
from usae.common.numerics.numbers import Numbers
from usae.common.params import MeasureParams
from usae.common.tables import Table, no_rows, write_table
from usae.common.types import Array
from usae.evidence.codes.store import CodeStore, open_codes
from usae.evidence.metrics.alignment.alignment import alignment_frame
from usae.evidence.metrics.alignment.rows import ActivationSource, CodeSource, Source
from usae.evidence.metrics.alignment.tables import ALIGNMENT
from usae.evidence.metrics.dictionaries.consistency import consistency_frame
from usae.evidence.metrics.dictionaries.tables import CONSISTENCY
from usae.evidence.metrics.firing.counts import energy
from usae.evidence.metrics.labels.agreement import label_tables
from usae.evidence.metrics.labels.labels import absent_labels
from usae.evidence.metrics.labels.loading import load_classes, load_labels, load_probes
from usae.evidence.metrics.labels.tables import PROBES
from usae.evidence.metrics.measure.concept_tables import (
    CONCEPT_MODELS,
    CONCEPT_PAIRS,
    CONCEPTS,
    EXEMPLARS,
    NULLS,
    PATTERNS,
)
from usae.evidence.metrics.measure.counting import concept_statistics
from usae.evidence.metrics.measure.curves import curves
from usae.evidence.metrics.measure.frames import (
    concept_models_frame,
    concept_pairs_frame,
    concepts_frame,
    patterns_frame,
)
from usae.evidence.metrics.measure.funnel_tables import Funnel
from usae.evidence.metrics.measure.nulls_tables import (
    consistency_numbers,
    null_numbers,
    nulls_frame,
    significant_concepts,
    top_sets,
)
from usae.evidence.metrics.measure.published import paper_frame
from usae.evidence.metrics.measure.tables import FUNNEL, PAPER, RECONSTRUCTION, SUMMARY
from usae.evidence.metrics.reconstruction.passes import linear_ceiling, reconstruction
from usae.evidence.metrics.reconstruction.r2 import with_ceiling
from usae.evidence.metrics.summary import USAE, concept_numbers, headlines, reconstruction_numbers, summary_frame
from usae.sae.universal import UniversalSAE

INDEPENDENT = "independent"
HELD_OUT = "val"
SPLITS = ("val", "train")


@dataclass(frozen=True)
class Evaluation:
    """Everything measured: frames by table, flat numbers, and frames of the plot files by stem."""

    tables: Mapping[Table, pd.DataFrame]
    numbers: Numbers
    plots: Mapping[str, pd.DataFrame]

    @property
    def headline(self) -> str:
        """The numbers to read first, in one line."""
        names = ("r2_self_mean", "r2_cross_mean", "cofire_proportion_mean", "lift_median", "alive")
        return ", ".join(f"{name} {self.numbers.get(name)}" for name in names)

    def write(self, reports: Path) -> None:
        """Write `*.parquet`, `metrics.json` and `plots/*.csv`; same numbers, same bytes.

        Table `summary` holds every number, `metrics.json` those that `dvc metrics` and `dvc exp show` should list.
        """
        (reports / "plots").mkdir(parents=True, exist_ok=True)
        for table, frame in self.tables.items():
            write_table(table, frame, reports / f"{table.name}.parquet")
        for stem, frame in self.plots.items():
            frame.to_csv(reports / "plots" / f"{stem}.csv", index=False, float_format="%.6g", lineterminator="\n")
        (reports / "metrics.json").write_text(
            json.dumps(headlines(self.numbers), indent=2, allow_nan=False) + "\n"
        )


def evaluate(
    models: Sequence[str],
    params: MeasureParams,
    store_root: Path,
    device: torch.device,
    data: Path = Path("data"),
    seed: int = 0,
    reports: Path | None = None,
    dask: str | None = None,
) -> Evaluation:
    """Measure the SAE in `data/usae` on the codes in `data/codes`, for `models` in this order.

    `seed` is that of the permutations and of random baselines; `reports`: where the tables
    of stage `contrast` are (None: there are none, and no concept is judged); `dask`: where concepts are counted,
    see `runtime.dask`.

    Raises UserError when codes, activations, images or truth are missing or do not belong together.
    """
    sae = UniversalSAE.from_pretrained(data / USAE).to(device)
    manifests = load_manifests(data / "manifests", tuple(models))
    table = pd.concat(
        [_reconstructions(split, models, manifests, store_root, device, sae, data) for split in _encoded(data)],
        ignore_index=True,
    )
    table = with_ceiling(table, _ceiling(models, manifests, store_root, sae, data))
    tables, numbers = _concepts(models, params, sae, data, seed, dask)
    tables |= {RECONSTRUCTION: table, PROBES: load_probes(data / "weights", models)}
    funnel = Funnel.load(reports, len(models)) if reports else Funnel.none(sae.concepts)
    tables[CONCEPTS], tables[FUNNEL] = tables[CONCEPTS].join(funnel.verdicts), funnel.counts
    tables[CONSISTENCY] = _consistency(models, sae, data, seed)
    codes = open_codes(data / "codes" / HELD_OUT, models)
    activations = {model: manifests[model].open(HELD_OUT, store_root) for model in models}
    tables[ALIGNMENT] = _alignment(activations, codes, seed)
    labels = load_labels(data / "images", HELD_OUT, next(iter(codes.values())).images)
    known, label_numbers = label_tables(sae, codes, activations, labels, params.threshold, seed)
    tables |= known
    numbers = {
        **reconstruction_numbers(table),
        **numbers,
        **funnel.numbers,
        **label_numbers,
        **consistency_numbers(tables[CONSISTENCY], top_sets(tables[CONCEPTS])),
    }
    tables[PAPER] = paper_frame(numbers, table)
    return Evaluation(
        {**tables, SUMMARY: summary_frame(numbers)}, numbers, curves(tables, models, funnel.evidence)
    )


def dictionary_norms(sae: UniversalSAE, models: Sequence[str]) -> Array:
    """(m, c) row norms of the dictionaries: 1 up to rounding."""
    with torch.inference_mode():
        return np.stack([sae.dictionary(model).double().norm(dim=-1).cpu().numpy() for model in models])


def dictionaries(sae: UniversalSAE, models: Sequence[str]) -> dict[str, Array]:
    """Model -> its dictionary (c, d), float32."""
    with torch.inference_mode():
        return {model: sae.dictionary(model).float().cpu().numpy() for model in models}


def _ceiling(
    models: Sequence[str], manifests: Mapping[str, Manifest], store_root: Path, sae: UniversalSAE, data: Path
) -> dict[tuple[str, str], float]:
    """What linear maps reach on the held-out images; empty where no training images are encoded."""
    if "train" not in _encoded(data):
        return {}
    sides: list[tuple[dict[str, ActivationStore], int]] = []
    for split in ("train", HELD_OUT):
        codes = open_codes(data / "codes" / split, models)
        stores = {model: manifests[model].open(split, store_root) for model in models}
        sides.append((stores, next(iter(codes.values())).images))
    return linear_ceiling(sae, *sides[0], *sides[1])


def _alignment(
    activations: Mapping[str, ActivationStore], codes: Mapping[str, CodeStore], seed: int
) -> pd.DataFrame:
    """Table `alignment`; without rows for one model alone."""
    if len(codes) < 2:
        return no_rows(ALIGNMENT)
    sources: dict[str, Mapping[str, Source]] = {
        "activations": {model: ActivationSource(store) for model, store in activations.items()},
        "codes": {model: CodeSource(store) for model, store in codes.items()},
    }
    return alignment_frame(sources, next(iter(codes.values())).images, seed=seed)


def _consistency(models: Sequence[str], sae: UniversalSAE, data: Path, seed: int) -> pd.DataFrame:
    """Table `consistency`, over the models that have an independent SAE."""
    folders = {model: data / "baselines" / model for model in models}
    alone = {
        model: dictionaries(UniversalSAE.from_pretrained(folder), [model])[model]
        for model, folder in folders.items()
        if folder.is_dir()
    }
    return consistency_frame(dictionaries(sae, models), alone, seed)


def _concepts(
    models: Sequence[str], params: MeasureParams, sae: UniversalSAE, data: Path, seed: int, dask: str | None
) -> tuple[dict[Table, pd.DataFrame], Numbers]:
    """Tables and numbers of the concepts, from one pass over the held-out codes."""
    codes = open_codes(data / "codes" / HELD_OUT, models)
    images = next(iter(codes.values())).images
    labels = load_labels(data / "images", HELD_OUT, images)
    classes = load_classes(data / "images", HELD_OUT, images)
    found = concept_statistics(codes, labels, params, seed, classes, dask=dask)
    norms = dictionary_norms(sae, models)
    names = absent_labels(sae.concepts) if found.labels is None else found.labels.frame()
    nulls = nulls_frame(found.firing, found.nulls, models)
    concepts = concepts_frame(found.firing, norms, names, models)
    tables = {
        CONCEPTS: concepts.join(significant_concepts(nulls, models, sae.concepts)),
        CONCEPT_MODELS: concept_models_frame(found.firing, norms, models),
        CONCEPT_PAIRS: concept_pairs_frame(found.firing, models),
        NULLS: nulls,
        PATTERNS: patterns_frame(found.firing, models),
        EXEMPLARS: found.exemplars.frame(),
    }
    energies = energy(found.firing.mean_codes, norms)
    return tables, {
        "images": images,
        **concept_numbers(found.firing, norms, models),
        **null_numbers(found.firing, found.nulls, nulls, energies, models),
    }


def _encoded(data: Path) -> list[str]:
    """The splits that `encode` has written codes of; `val` always, so that its absence is an error."""
    return [split for split in SPLITS if split == HELD_OUT or (data / "codes" / split).is_dir()]


def _reconstructions(
    split: str,
    models: Sequence[str],
    manifests: Mapping[str, Manifest],
    store_root: Path,
    device: torch.device,
    sae: UniversalSAE,
    data: Path,
) -> pd.DataFrame:
    """Rows of table `reconstruction` for one split: the universal SAE, then the independent ones."""
    activations = {model: manifests[model].open(split, store_root) for model in models}
    folder = data / "codes" / split
    shared = reconstruction(sae, open_codes(folder, models), activations, name=USAE, split=split)
    rows = shared.rows(models)
    for model in models if (folder / INDEPENDENT).is_dir() else ():
        alone = UniversalSAE.from_pretrained(data / "baselines" / model).to(device)
        codes = open_codes(folder / INDEPENDENT, [model])
        own = {model: activations[model]}
        rows += reconstruction(alone, codes, own, name=INDEPENDENT, split=split).rows([model])
    return pd.DataFrame(rows)
