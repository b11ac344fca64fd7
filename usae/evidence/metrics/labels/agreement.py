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
from usae.common.tables import Table, no_rows
from usae.common.types import Array
from usae.evidence.codes.encoding import encoded
from usae.evidence.codes.store import CodeChunk, CodeStore, aligned_chunks
from usae.evidence.metrics.firing.exemplars import Exemplars
from usae.evidence.metrics.fresh import fresh_sae
from usae.evidence.metrics.labels.concepts import (
    STRONGEST,
    Agreement,
    LabelConcepts,
    LabelFires,
    LabelHalves,
    agreement,
    label_purity,
)
from usae.evidence.metrics.labels.labels import carried_by_images
from usae.evidence.metrics.labels.probes import ProbeSamples, ProbeTask, TrainingFires, draw_tasks
from usae.evidence.metrics.labels.tables import LABEL_CONCEPTS, LABEL_PROBES
from usae.sae.estimator import Estimator
from usae.sae.universal import UniversalSAE

FLOOR_IMAGES = 2000  # most images that the SAE before its first step encodes
BLOCK_IMAGES = 64


def label_tables(
    codes: Mapping[str, CodeStore], fires: LabelHalves, floor: Agreement, strongest: Exemplars, seed: int
) -> tuple[dict[Table, pd.DataFrame], Numbers]:
    """Both tables, and `label_jaccard`, `label_jaccard_all`, each with its `_floor`, and `label_purity`.

    `fires` and `strongest`, at least 50 images of each concept, are of the same `codes`, which are read again.
    """
    models, store, whole = tuple(codes), next(iter(codes.values())), fires.whole
    labelled, carried = carried_by_images(whole.labels, np.arange(store.images), store.tokens)
    concepts = LabelConcepts(fires)
    tasks = [replace(task, images=labelled[task.images]) for task in draw_tasks(carried.toarray() > 0, seed)]
    probes = ProbeSamples(tasks, _candidates(codes, tasks, whole.threshold)) if tasks else None
    for chunks in aligned_chunks(codes):
        concepts.update(chunks)
        if probes:
            probes.update(chunks)
    tables = {
        LABEL_CONCEPTS: concepts.frame(models),
        LABEL_PROBES: probes.frame(models, whole.labels.names) if probes else no_rows(LABEL_PROBES),
    }
    alike = agreement(whole.joint, whole.fires)
    numbers = {
        "label_jaccard": alike.alive,
        "label_jaccard_floor": floor.alive,
        "label_jaccard_all": alike.every,
        "label_jaccard_all_floor": floor.every,
        "label_purity": _purity(strongest, labelled, carried, store.images),
    }
    return tables, {name: rounded(value) for name, value in numbers.items()}


@torch.no_grad()
def fresh_agreement(
    sae: Estimator, stores: Mapping[str, ActivationStore], like: LabelFires, seed: int
) -> Agreement:
    """The weighted Jaccard of an SAE like `sae` before its first step, at the labels and threshold of `like`.

    NaN for other methods, whose first step this is not.
    """
    if not isinstance(sae, UniversalSAE):
        return Agreement(float("nan"), float("nan"), 0)
    fresh, device = fresh_sae(sae, stores, seed), sae.device
    fires = LabelFires(like.labels, len(stores), sae.concepts, like.threshold)
    images = min(FLOOR_IMAGES, *(store.images for store in stores.values()))
    for span in image_spans(range(images), BLOCK_IMAGES):
        codes = [encoded(fresh, model, store.take(span), device) for model, store in stores.items()]
        fires.update([CodeChunk(np.array(span), *part) for part in codes])
    return agreement(fires.joint, fires.fires)


def _candidates(codes: Mapping[str, CodeStore], tasks: Sequence[ProbeTask], threshold: float) -> Array:
    """(tasks, m, 20) concepts that each task tries, by its training images."""
    fires = TrainingFires(tasks, len(codes), next(iter(codes.values())).concepts, threshold)
    for chunks in aligned_chunks(codes):
        fires.update(chunks)
    return fires.candidates()


def _purity(strongest: Exemplars, labelled: Array, carried: sparse.csr_array, images: int) -> float:
    """Mean over concepts and models of `label_purity`; unlabelled images carry nothing."""
    order = np.arange(len(labelled))
    spread = sparse.csr_array((np.ones(len(labelled)), (labelled, order)), (images, len(labelled)))
    every = sparse.csr_array(spread @ carried)
    frame, purities = strongest.frame(STRONGEST), []
    for model in strongest.models:
        rows = frame[frame["ranking"] == model]
        top = np.full((strongest.concepts, STRONGEST), -1)
        top[rows["concept_id"], rows["rank"]] = rows["image"]
        purities.append(label_purity(top, every))
    values = np.concatenate(purities)
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")
