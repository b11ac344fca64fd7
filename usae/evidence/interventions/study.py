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
from usae.common.layout import START, Layout
from usae.common.numerics.ridge import LinearMap, ridge_map
from usae.common.runtime.amounts import say_fewer
from usae.common.runtime.progress import progress
from usae.common.tables import no_rows
from usae.evidence.codes.store import CodeStore, aligned_chunks, open_codes
from usae.evidence.controls.names import RUN, TWIN
from usae.evidence.estimators import load_estimator
from usae.evidence.interventions.ablation import ImageFires, ablation_frame
from usae.evidence.interventions.readouts import Targets, common_targets, fit_readouts, through_decoder
from usae.evidence.interventions.stitching import INDEPENDENT, all_routes, matched_codes, run_routes
from usae.evidence.interventions.tables import ABLATION, STITCHING
from usae.evidence.metrics.labels.loading import load_labels
from usae.evidence.metrics.reconstruction.passes import model_spans, training_products
from usae.sae.estimator import Estimator

HELD_OUT = SPLITS[1]


@dataclass(frozen=True)
class Study:
    """What earlier stages wrote, by model in order.

    universal: the universal SAE, and START, the same before its first step, and TWIN where there is one; with
    independent, the SAE of each model by itself. train, val: activations. codes: of held-out images, by model,
    of each of `universal` and INDEPENDENT.
    """

    universal: Mapping[str, Estimator]
    independent: Mapping[str, Estimator]
    train: Mapping[str, ActivationStore]
    val: Mapping[str, ActivationStore]
    codes: Mapping[str, Mapping[str, CodeStore]]
    layout: Layout

    @classmethod
    def load(cls, models: tuple[str, ...], store_root: Path, device: torch.device, layout: Layout) -> "Study":
        """Open a run; UserError where something is missing or does not belong together."""
        manifests = load_manifests(layout.manifests, models)
        train, val = ({model: manifests[model].open(split, store_root) for model in models} for split in SPLITS)
        universal = {RUN: load_estimator(layout.usae), START: load_estimator(layout.usae / START)}
        independent = {model: load_estimator(layout.independent(model)).to(device) for model in models}
        codes = {RUN: layout.codes(HELD_OUT), START: layout.start_codes(HELD_OUT)}
        if layout.twin.is_dir():
            universal[TWIN], codes[TWIN] = load_estimator(layout.twin), layout.twin_codes(HELD_OUT)
        opened: dict[str, Mapping[str, CodeStore]] = {
            name: open_codes(path, models) for name, path in codes.items()
        }
        own = layout.independent_codes(HELD_OUT)
        opened[INDEPENDENT] = {model: CodeStore.open(own / model) for model in models}
        moved = {name: sae.to(device) for name, sae in universal.items()}
        return cls(moved, independent, train, val, opened, layout)

    @property
    def sae(self) -> Estimator:
        """The universal SAE, whose units are those of all."""
        return self.universal[RUN]

    def targets(self, images: int) -> tuple[Targets, Targets] | None:
        """Labels of the first `images` training images and of the held-out ones; None where there are none."""
        store = next(iter(self.codes[RUN].values()))
        counts = (images, store.images)
        train, val = (load_labels(self.layout.images, *split) for split in zip(SPLITS, counts, strict=True))
        return common_targets(train, val, counts, store.tokens)


def intervene(study: Study, readout_images: int, threshold: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables `stitching` and `ablation`; without rows where the images have no labels to read out.

    readout_images: most training images that the readouts learn from.
    """
    there = min(store.images for store in study.train.values())
    say_fewer("interventions.readout_images", readout_images, there)
    images = min(readout_images, there)
    targets = study.targets(images)
    if targets is None:
        return no_rows(STITCHING), no_rows(ABLATION)
    train, val = targets
    by_image = fit_readouts(study.sae, study.train, train, images)
    finest = train.at_finest_unit()
    readouts = by_image if finest.unit == train.unit else fit_readouts(study.sae, study.train, finest, images)
    ablations = [
        _ablation(sae, study.codes[name], readouts, val.names, threshold).assign(sae=name)
        for name, sae in study.universal.items()
    ]
    return _stitching(study, by_image, val, images), pd.concat(ablations, ignore_index=True)


def _stitching(study: Study, readouts: Mapping[str, LinearMap], targets: Targets, images: int) -> pd.DataFrame:
    """Table `stitching`; maps and matches between models learn from the first `images`, as the readouts did."""
    products, spans = training_products(study.sae, study.train, images), model_spans(study.train)
    translations = {
        (source, target): ridge_map(*products, spans[source], spans[target])
        for source, target in permutations(readouts, 2)
    }
    matches = matched_codes(study.independent, study.train, images)
    routes = all_routes(study.universal, study.independent, readouts, translations, matches)
    return run_routes(routes, study.sae, study.val, study.codes, targets)


def _ablation(
    sae: Estimator,
    codes: Mapping[str, CodeStore],
    readouts: Mapping[str, LinearMap],
    labels: tuple[str, ...],
    threshold: float,
) -> pd.DataFrame:
    """Rows of table `ablation` of one universal SAE, over all held-out images."""
    fires = ImageFires(len(readouts), sae.concepts, threshold)
    total = next(iter(codes.values())).chunks
    for chunks in progress(aligned_chunks(codes), total=total, description="ablation", unit="chunk"):
        fires.update(chunks)
    directions = {
        model: np.asarray(through_decoder(sae, model, readout).weights) for model, readout in readouts.items()
    }
    return ablation_frame(fires, directions, labels)
