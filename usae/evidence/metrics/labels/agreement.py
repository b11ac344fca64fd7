"""What labels say about the concepts of a run: tables `label_concepts` and `label_probes`, and a few numbers.

Stage `measure`. The weighted Jaccard has a large floor where labels differ in frequency, so it stands beside that
of an SAE before its first step. That one selects per model: SPARC's global selection would impose the agreement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from usae.activations.store import ActivationStore, image_spans
from usae.common.numerics.numbers import Numbers, rounded
from usae.common.seeds import seed_of
from usae.common.tables import Table, no_rows
from usae.common.types import Array
from usae.evidence.codes.encoding import encoded
from usae.evidence.codes.store import CodeChunk, CodeStore, aligned_chunks
from usae.evidence.metrics.firing.exemplars import Exemplars
from usae.evidence.metrics.labels.concepts import Agreement, LabelFires, agreement, label_concepts, label_purity
from usae.evidence.metrics.labels.labels import Labels, carried_by_images
from usae.evidence.metrics.labels.probes import ProbeSamples, co_occurring, draw_tasks
from usae.evidence.metrics.labels.tables import LABEL_CONCEPTS, LABEL_PROBES
from usae.sae.universal import UniversalSAE

STRONGEST = 50  # images behind the purity of a concept
FLOOR_IMAGES = 2000  # most images that the SAE before its first step encodes
CALIBRATION_IMAGES = 64  # whose statistics its normalisation takes
BLOCK_IMAGES = 64


def label_tables(
    sae: UniversalSAE,
    codes: Mapping[str, CodeStore],
    activations: Mapping[str, ActivationStore],
    labels: Labels | None,
    threshold: float,
    seed: int,
) -> tuple[dict[Table, pd.DataFrame], Numbers]:
    """Both tables, and `label_jaccard`, `label_jaccard_all`, each with its `_floor`, and `label_purity`."""
    if labels is None:
        return {table: no_rows(table) for table in (LABEL_CONCEPTS, LABEL_PROBES)}, {}
    store = next(iter(codes.values()))
    by_token, by_image = (LabelFires(labels, len(codes), store.concepts, threshold, u) for u in ("token", "image"))
    strongest = Exemplars(tuple(codes), store.concepts, STRONGEST)
    for chunks in aligned_chunks(codes):
        for sums in (by_token, by_image, strongest):
            sums.update(chunks)
    known, carried = carried_by_images(labels, np.arange(store.images), store.tokens)
    alike = agreement(by_token.joint, by_token.fires)
    floor = untrained_agreement(sae, activations, labels, threshold, seed)
    numbers = {
        "label_jaccard": alike.alive,
        "label_jaccard_floor": floor.alive,
        "label_jaccard_all": alike.every,
        "label_jaccard_all_floor": floor.every,
        "label_purity": _purity(strongest, known, carried, store.images),
    }
    tables = {
        LABEL_CONCEPTS: label_concepts(codes, labels, threshold),
        LABEL_PROBES: _probes(codes, labels.names, known, carried, by_image.joint, seed),
    }
    return tables, {name: rounded(value) for name, value in numbers.items()}


@torch.no_grad()
def untrained_agreement(
    sae: UniversalSAE, stores: Mapping[str, ActivationStore], labels: Labels, threshold: float, seed: int
) -> Agreement:
    """The weighted Jaccard of an SAE like `sae` before its first step, drawn at random."""
    fresh, device = untrained(sae, stores, seed), next(sae.parameters()).device
    fires = LabelFires(labels, len(stores), sae.concepts, threshold)
    images = min(FLOOR_IMAGES, *(store.images for store in stores.values()))
    for span in image_spans(range(images), BLOCK_IMAGES):
        codes = [encoded(fresh, model, store.take(span), device) for model, store in stores.items()]
        fires.update([CodeChunk(np.array(span), *part) for part in codes])
    return agreement(fires.joint, fires.fires)


@torch.no_grad()
def untrained(sae: UniversalSAE, stores: Mapping[str, ActivationStore], seed: int) -> UniversalSAE:
    """An SAE like `sae` with random weights; its normalisation has seen some images, as in a first step."""
    torch.manual_seed(seed_of(seed, "weights before the first step"))
    fresh = UniversalSAE(sae.widths, sae.concepts, sae.k)
    for model, store in stores.items():
        part, trained = fresh.part(model), sae.part(model)
        part.mean.copy_(trained.mean)
        part.std.copy_(trained.std)
        part.encoder.norm.momentum = 1.0
        rows = store.take(range(min(CALIBRATION_IMAGES, store.images)))
        part.encoder.train()(part.standardise(torch.from_numpy(rows.reshape(-1, store.width).astype(np.float32))))
    return fresh.eval().to(next(sae.parameters()).device)


def _purity(strongest: Exemplars, known: Array, carried: sparse.csr_array, images: int) -> float:
    """Mean over concepts and models of `label_purity`; unlabelled images carry nothing."""
    spread = sparse.csr_array((np.ones(len(known)), (known, np.arange(len(known)))), (images, len(known)))
    every = sparse.csr_array(spread @ carried)
    frame, purities = strongest.frame(), []
    for model in strongest.models:
        rows = frame[frame["ranking"] == model]
        top = np.full((strongest.concepts, strongest.count), -1)
        top[rows["concept_id"], rows["rank"]] = rows["image"]
        purities.append(label_purity(top, every))
    values = np.concatenate(purities)
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")


def _probes(
    codes: Mapping[str, CodeStore],
    names: Sequence[str],
    known: Array,
    carried: sparse.csr_array,
    joint: Array,
    seed: int,
) -> pd.DataFrame:
    """Table `label_probes`; without rows where no label has enough images."""
    tasks = [replace(task, images=known[task.images]) for task in draw_tasks(carried.toarray() > 0, seed)]
    if not tasks:
        return no_rows(LABEL_PROBES)
    samples = ProbeSamples(tasks, co_occurring(joint, tasks))
    for chunks in aligned_chunks(codes):
        samples.update(chunks)
    return samples.frame(tuple(codes), names)
