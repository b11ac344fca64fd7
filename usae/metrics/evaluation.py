"""All that stage `measure` does: read codes, activations and labels of the held-out images, write the reports.

Universal concepts are measured on split `val`; reconstruction also on the encoded part of `train`, and for the
independent SAEs where `encode` has written their codes (`data/codes/<split>/independent/<model>`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from usae.codes import open_codes
from usae.errors import UserError
from usae.images import ImageIndex
from usae.manifests import Manifest, load_manifests
from usae.metrics.curves import curves
from usae.metrics.labels import ImageLabels, Labels, TokenLabels, absent_labels
from usae.metrics.streams import concept_statistics, reconstruction
from usae.metrics.summary import (
    Numbers,
    concept_models_frame,
    concept_numbers,
    concepts_frame,
    headlines,
    patterns_frame,
    reconstruction_numbers,
    summary_frame,
)
from usae.params import MeasureParams
from usae.sae import UniversalSAE
from usae.tables import TABLES, describe, write_table

USAE, INDEPENDENT = "usae", "independent"
HELD_OUT = "val"
SPLITS = ("val", "train")

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Evaluation:
    """Everything measured: frames by table name, flat numbers, and frames of the plot files by stem."""

    tables: Mapping[str, pd.DataFrame]
    numbers: Numbers
    plots: Mapping[str, pd.DataFrame]

    @property
    def headline(self) -> str:
        """The numbers to read first, in one line."""
        names = ("r2_self_mean", "r2_cross_mean", "cofire_proportion_mean", "lift_median", "alive")
        return ", ".join(f"{name} {self.numbers.get(name)}" for name in names)

    def write(self, reports: Path) -> None:
        """Write `*.parquet`, `metrics.json`, `plots/*.csv` and `README.md`; same numbers, same bytes.

        Table `summary` holds every number, `metrics.json` those that `dvc metrics` and `dvc exp show` should list.
        """
        (reports / "plots").mkdir(parents=True, exist_ok=True)
        for name, frame in self.tables.items():
            write_table(name, frame, reports / f"{name}.parquet")
        for stem, frame in self.plots.items():
            frame.to_csv(reports / "plots" / f"{stem}.csv", index=False, float_format="%.6g", lineterminator="\n")
        (reports / "metrics.json").write_text(
            json.dumps(headlines(self.numbers), indent=2, allow_nan=False) + "\n"
        )
        (reports / "README.md").write_text(describe())


def evaluate(
    models: Sequence[str], params: MeasureParams, store_root: Path, device: torch.device, data: Path = Path("data")
) -> Evaluation:
    """Measure the SAE in `data/usae` on the codes in `data/codes`, for `models` in this order.

    Raises UserError when codes, activations, images or truth are missing or do not belong together.
    """
    sae = UniversalSAE.from_pretrained(data / USAE).to(device)
    manifests = load_manifests(data / "manifests", tuple(models))
    table = pd.concat(
        [_reconstructions(split, models, manifests, store_root, device, sae, data) for split in _encoded(data)],
        ignore_index=True,
    )
    tables, numbers = _concepts(models, params, sae, data)
    tables |= {"reconstruction": table, "probes": load_probes(data / "weights", models)}
    plots = curves(table, tables["concepts"], tables["concept_models"], models)
    numbers = {**reconstruction_numbers(table), **numbers}
    return Evaluation({**tables, "summary": summary_frame(numbers)}, numbers, plots)


def load_labels(folder: Path, split: str, images: int) -> Labels | None:
    """Labels of the first `images` images: ground truth per token, else per image; None where there are none.

    Raises UserError when the truth is not of these images.
    """
    index = ImageIndex.load(folder / f"{split}.parquet")
    if len(index) < images:
        raise UserError(
            f"The codes of split {split} hold {images} images, the index in {folder} has {len(index)}."
            " Run `dvc repro encode`."
        )
    truth = folder / f"{split}_truth.npz"
    if truth.is_file():
        labels = TokenLabels.load(truth)
        if len(labels.coverage) != len(index):
            raise UserError(
                f"The ground truth {truth} describes {len(labels.coverage)} images, the index beside it has"
                f" {len(index)}. Run `dvc repro --force images`."
            )
        return labels
    numbers = index.frame["label"].astype("Int64").fillna(-1).to_numpy(dtype=np.int64)
    return ImageLabels(index.label_names, numbers) if index.label_names and (numbers >= 0).any() else None


def load_probes(weights: Path, models: Sequence[str]) -> pd.DataFrame:
    """Table `probes`, from `<weights>/<model>/probes.json` where stage `weights` has written one."""
    names = [column.name for column in TABLES["probes"].columns]
    records = []
    for model in models:
        path = weights / model / "probes.json"
        if path.is_file():
            records += [{**record, "model": model} for record in json.loads(path.read_text())]
    return pd.DataFrame(records, columns=names)


def dictionary_norms(sae: UniversalSAE, models: Sequence[str]) -> Array:
    """(m, c) row norms of the dictionaries: 1 up to rounding."""
    with torch.inference_mode():
        return np.stack([sae.dictionary(model).double().norm(dim=-1).cpu().numpy() for model in models])


def _concepts(
    models: Sequence[str], params: MeasureParams, sae: UniversalSAE, data: Path
) -> tuple[dict[str, pd.DataFrame], Numbers]:
    """Tables and numbers of the concepts, from one pass over the held-out codes."""
    codes = open_codes(data / "codes" / HELD_OUT, models)
    images = next(iter(codes.values())).images
    labels = load_labels(data / "images", HELD_OUT, images)
    found = concept_statistics(codes, labels, params.threshold, params.exemplars)
    norms = dictionary_norms(sae, models)
    names = absent_labels(sae.concepts) if found.labels is None else found.labels.frame()
    tables = {
        "concepts": concepts_frame(found.firing, norms, names),
        "concept_models": concept_models_frame(found.firing, norms, models),
        "patterns": patterns_frame(found.firing, models),
        "exemplars": found.exemplars.frame(),
    }
    return tables, {"images": images, **concept_numbers(found.firing, norms, models)}


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
