"""Both parts of stage `interventions` from an opened run: readouts through other models, and ablated concepts."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from usae.activations.store import ActivationStore
from usae.activations.store.manifests import SPLITS, load_manifests
from usae.common.layout import Layout
from usae.common.numerics.ridge import LinearMap, ridge_map
from usae.common.runtime.progress import progress
from usae.common.tables import no_rows
from usae.evidence.codes.store import CodeStore, aligned_chunks, open_codes
from usae.evidence.controls.names import RUN
from usae.evidence.estimators import load_estimator
from usae.evidence.interventions.ablation import ImageFires, ablation_frame
from usae.evidence.interventions.readouts import Targets, common_targets, fit_readouts, through_decoder
from usae.evidence.interventions.stitching import all_routes, matched_codes, run_routes
from usae.evidence.interventions.tables import ABLATION, STITCHING
from usae.evidence.metrics.labels.loading import load_labels
from usae.evidence.metrics.reconstruction.passes import model_spans, training_products
from usae.sae.estimator import Estimator

HELD_OUT = SPLITS[1]


@dataclass(frozen=True)
class Study:
    """What earlier stages wrote, by model in order.

    independent: SAE of each model by itself. train, val: activations. codes: universal ones, of held-out images.
    """

    sae: Estimator
    independent: Mapping[str, Estimator]
    train: Mapping[str, ActivationStore]
    val: Mapping[str, ActivationStore]
    codes: Mapping[str, CodeStore]
    layout: Layout

    @classmethod
    def load(cls, models: tuple[str, ...], store_root: Path, device: torch.device, layout: Layout) -> "Study":
        """Open a run; UserError where something is missing or does not belong together."""
        manifests = load_manifests(layout.manifests, models)
        train, val = ({model: manifests[model].open(split, store_root) for model in models} for split in SPLITS)
        sae = load_estimator(layout.usae).to(device)
        independent = {model: load_estimator(layout.baselines / model).to(device) for model in models}
        return cls(sae, independent, train, val, open_codes(layout.codes(HELD_OUT), models), layout)

    def targets(self, images: int) -> tuple[Targets, Targets] | None:
        """Labels of the first `images` training images and of the held-out ones; None where there are none."""
        store = next(iter(self.codes.values()))
        counts = (images, store.images)
        train, val = (load_labels(self.layout.images, *split) for split in zip(SPLITS, counts, strict=True))
        return common_targets(train, val, counts, store.tokens)

    def independent_codes(self) -> dict[str, CodeStore]:
        """Codes of the independent SAEs, of held-out images."""
        folder = self.layout.independent_codes(HELD_OUT)
        return {model: CodeStore.open(folder / model) for model in self.codes}


def intervene(study: Study, readout_images: int, threshold: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables `stitching` and `ablation`; without rows where the images have no labels to read out.

    readout_images: most training images that the readouts learn from.
    """
    images = min(readout_images, *(store.images for store in study.train.values()))
    targets = study.targets(images)
    if targets is None:
        return no_rows(STITCHING), no_rows(ABLATION)
    train, val = targets
    by_image = fit_readouts(study.sae, study.train, train, images)
    finest = train.at_finest_unit()
    readouts = by_image if finest.unit == train.unit else fit_readouts(study.sae, study.train, finest, images)
    return _stitching(study, by_image, val, images), _ablation(study, readouts, val.names, threshold)


def _stitching(study: Study, readouts: Mapping[str, LinearMap], targets: Targets, images: int) -> pd.DataFrame:
    """Table `stitching`; maps and matches between models learn from the first `images`, as the readouts did."""
    products, spans = training_products(study.sae, study.train, images), model_spans(study.train)
    translations = {
        (source, target): ridge_map(*products, spans[source], spans[target])
        for source, target in permutations(readouts, 2)
    }
    matches = matched_codes(study.independent, study.train, images)
    routes = all_routes(study.sae, study.independent, readouts, translations, matches)
    return run_routes(routes, study.sae, study.val, study.codes, study.independent_codes(), targets)


def _ablation(
    study: Study, readouts: Mapping[str, LinearMap], labels: tuple[str, ...], threshold: float
) -> pd.DataFrame:
    """Table `ablation` of the run's own SAE, over all held-out images."""
    fires = ImageFires(len(readouts), study.sae.concepts, threshold)
    total = next(iter(study.codes.values())).chunks
    for chunks in progress(aligned_chunks(study.codes), total=total, description="ablation", unit="chunk"):
        fires.update(chunks)
    directions = {
        model: np.asarray(through_decoder(study.sae, model, readout).weights)
        for model, readout in readouts.items()
    }
    return ablation_frame(fires, directions, labels).assign(sae=RUN)
