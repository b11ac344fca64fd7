"""The same measures of an SAE and of its controls, one after another (stage `contrast`).

Held-out activations are encoded on the way and only counts are kept. So every number of the universal SAE stands
beside that of a run in which nothing can be shared, or of networks that have learnt nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from usae.activations.store import ActivationStore, image_spans
from usae.activations.store.manifests import load_manifests
from usae.common.layout import Layout
from usae.common.numerics.matching import concatenated
from usae.common.numerics.numbers import Numbers, rounded
from usae.common.numerics.significance import FALSE_DISCOVERY_RATE
from usae.common.params import MeasureParams, Params
from usae.common.runtime.progress import counter
from usae.common.tables import Table
from usae.common.types import Array
from usae.evidence.codes.encoding import code_chunk
from usae.evidence.codes.store import CodeChunk
from usae.evidence.controls.names import RUN, SEED
from usae.evidence.controls.variants import variants
from usae.evidence.estimators import load_estimator
from usae.evidence.metrics.contrast.stability import stability_frame, stability_numbers
from usae.evidence.metrics.contrast.tables import CONTROL_CONCEPTS, CONTROLS, STABILITY
from usae.evidence.metrics.firing.counts import FiringCounts, energy
from usae.evidence.metrics.firing.evidence import evidence
from usae.evidence.metrics.firing.nulls import IMAGES, CofireNulls
from usae.evidence.metrics.reconstruction.passes import decoded, standardised
from usae.evidence.metrics.reconstruction.r2 import Reconstruction
from usae.evidence.metrics.summary import HELD_OUT, USAE, concept_numbers, nulls_beside, reconstruction_numbers
from usae.sae.estimator import Estimator

MEASURES = {  # each with its value where images are re-paired, if it has one
    "r2_self_mean": None,
    "r2_cross_mean": None,
    "alive": None,
    "alive_in_all_models": None,
    "firing_entropy_median": None,
    "firing_entropy_high_share": None,
    "cofire_proportion_mean": "cofire_proportion_null_mean",
    "cofire_proportion_min_median": "cofire_proportion_min_null_median",
    "lift_median": "lift_null_median",
    "importance_r": "importance_null_r",
    "significant_share": None,
}


@dataclass(frozen=True)
class Contrast:
    """What one pass over the held-out images says of an SAE. energies: (m, c)."""

    firing: FiringCounts
    permuted: Array  # (permutations, c) co-fires of all models with re-paired images
    energies: Array
    reconstruction: pd.DataFrame

    def concepts(self, run: str) -> pd.DataFrame:
        """Rows of table `control_concepts`."""
        over = excess(self.firing.cofires, self.permuted.mean(axis=0), self.firing.fires)
        return evidence(self.firing, self.permuted).assign(excess=over, run=run)

    def numbers(self, run: str) -> pd.DataFrame:
        """Rows of table `controls`."""
        models = [str(model) for model in range(self.firing.models)]
        numbers: Numbers = {
            **reconstruction_numbers(self.reconstruction),
            **concept_numbers(self.firing, np.ones_like(self.energies), models),
            **nulls_beside(self.firing, self.permuted, self.energies),
        }
        significant = (evidence(self.firing, self.permuted)["q"] <= FALSE_DISCOVERY_RATE).sum()
        significant /= max(self.firing.fires.any(axis=0).sum(), 1)
        numbers["significant_share"] = rounded(float(significant))
        columns = {
            "measure": list(MEASURES),
            "value": [numbers.get(name) for name in MEASURES],
            "null": [None if null is None else numbers[null] for null in MEASURES.values()],
        }
        return pd.DataFrame(columns).astype({"value": float, "null": float}).assign(run=run)


def contrasts(params: Params, layout: Layout, store_root: Path, device: torch.device) -> dict[Table, pd.DataFrame]:
    """Tables `controls`, `control_concepts` and `stability` of the universal SAE and all its controls in `layout`.

    Raises:
        UserError: an SAE or held-out activations are missing.
    """
    folders = {RUN: layout.usae, **{name: layout.controls / name for name in variants(params)}}
    manifests = load_manifests(layout.manifests, params.models)
    manifests |= load_manifests(layout.untrained, params.models)
    stores = {model: manifest.open(HELD_OUT, store_root) for model, manifest in manifests.items()}
    return contrast_tables(folders, stores, params.measure, params.seed, device)


def contrast_tables(
    folders: Mapping[str, Path],
    stores: Mapping[str, ActivationStore],
    params: MeasureParams,
    seed: int,
    device: torch.device,
) -> dict[Table, pd.DataFrame]:
    """The tables of `contrasts`, of the SAEs in `folders`, the universal one first.

    `stores`: held-out activations by model, of untrained networks too.
    """
    numbers, concepts, dictionaries = [], [], {}
    for run, folder in folders.items():
        sae = load_estimator(folder)
        measured = contrast(sae, {model: stores[model] for model in sae.models}, params, seed, device)
        numbers.append(measured.numbers(run))
        concepts.append(measured.concepts(run))
        if run == RUN or run.startswith(SEED):
            with torch.inference_mode():
                dictionaries[run] = concatenated([sae.dictionary(model).cpu().numpy() for model in sae.models])
    stability = stability_frame(dictionaries, seed)
    controls = pd.concat([*numbers, stability_numbers(stability, concepts[0])], ignore_index=True)
    return {
        CONTROLS: controls,
        CONTROL_CONCEPTS: pd.concat(concepts, ignore_index=True),
        STABILITY: stability,
    }


def contrast(
    sae: Estimator,
    stores: Mapping[str, ActivationStore],
    params: MeasureParams,
    seed: int,
    device: torch.device,
) -> Contrast:
    """Encode the held-out activations `stores` of the models of `sae`, count, and decode.

    `seed`: of the re-pairings, the same ones as those of stage `measure`.
    """
    models, images = sae.models, next(iter(stores.values())).images
    sae = sae.to(device)
    firing = FiringCounts(len(models), sae.concepts, params.threshold)
    all_models = tuple(range(len(models)))
    nulls = CofireNulls(
        len(models), sae.concepts, params.threshold, params.permutations, seed, images, only=[(IMAGES, all_models)]
    )
    table = Reconstruction(USAE, HELD_OUT)
    for chunks in _encoded(sae, stores, device):
        firing.update(chunks)
        nulls.update(chunks)
        sources = dict(zip(models, chunks, strict=True))
        for target, store in stores.items():
            truth = standardised(sae, target, store, chunks[0].images)
            table.update(target, truth, decoded(sae, target, sources))
    nulls.finish()
    permuted = nulls.counts.get((IMAGES, all_models), np.zeros((params.permutations, sae.concepts)))
    return Contrast(firing, permuted, energy(firing.mean_codes), pd.DataFrame(table.rows(models)))


def excess(cofires: Array, expected: Array, fires: Array) -> Array:
    """(c,) (cofires - null mean) / (largest possible - null mean).

    `expected` (c,): the null mean, of re-paired images; `fires` (m, c), whose rates say what is possible. Unlike
    the lift it does not grow with rarity. NaN where the rates allow no more than that.
    """
    room = fires.min(axis=0) - expected
    return np.asarray(np.divide(cofires - expected, room, out=np.full(len(room), np.nan), where=room > 0))


def _encoded(
    sae: Estimator, stores: Mapping[str, ActivationStore], device: torch.device
) -> Iterator[tuple[CodeChunk, ...]]:
    """The codes of all models, some images at a time, rounded as stage `encode` stores them."""
    images, size = (min(getattr(s, name) for s in stores.values()) for name in ("images", "chunk_images"))
    with counter(images, description="contrast", unit="image") as bar:
        for span in image_spans(range(images), size):
            rows = {model: np.asarray(store.take(span)) for model, store in stores.items()}
            yield tuple(code_chunk(sae, model, part, span, device) for model, part in rows.items())
            bar.update(len(span))
