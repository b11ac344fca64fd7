"""What earlier stages made, each opened once (stage `measure`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pandas as pd
import torch

from usae.activations.store import ActivationStore
from usae.activations.store.manifests import Manifest, load_manifests
from usae.common.layout import Layout
from usae.common.types import Array
from usae.evidence.codes.store import CodeStore, open_codes
from usae.evidence.estimators import load_estimator
from usae.evidence.metrics.labels.labels import Labels
from usae.evidence.metrics.labels.loading import load_classes, load_labels, load_probes
from usae.evidence.metrics.reconstruction.passes import refuse_mismatch
from usae.evidence.metrics.summary import HELD_OUT, TRAIN
from usae.sae.estimator import Estimator


@dataclass(frozen=True)
class OpenedSplit:
    """One split, by model in order. independent: codes of the independent SAEs, empty where there are none."""

    activations: Mapping[str, ActivationStore]
    codes: Mapping[str, CodeStore]
    independent: Mapping[str, CodeStore]

    @classmethod
    def load(cls, split: str, manifests: Mapping[str, Manifest], layout: Layout, store_root: Path) -> Self:
        """Open activations and codes of `split`; UserError where they are missing or not of the same images."""
        activations = {model: manifest.open(split, store_root) for model, manifest in manifests.items()}
        codes = open_codes(layout.codes(split), tuple(manifests))
        refuse_mismatch(codes, activations)
        folder = layout.independent_codes(split)
        models = manifests if folder.is_dir() else ()
        return cls(activations, codes, {model: open_codes(folder, [model])[model] for model in models})

    @property
    def images(self) -> int:
        """How many images have codes."""
        return next(iter(self.codes.values())).images


@dataclass(frozen=True)
class Opened:
    """All that `evaluate` reads. train: the encoded training images, None where there are none.

    training: activations of all training images; baselines: the independent SAEs that there are; both by model.
    labels, classes: of the held-out images; probes: table `probes`.
    """

    models: tuple[str, ...]
    sae: Estimator
    baselines: Mapping[str, Estimator]
    val: OpenedSplit
    train: OpenedSplit | None
    training: Mapping[str, ActivationStore]
    labels: Labels | None
    classes: Array | None
    probes: pd.DataFrame

    @classmethod
    def load(cls, models: tuple[str, ...], layout: Layout, store_root: Path, device: torch.device) -> Self:
        """Open what lies in `layout`, for `models` in this order; the universal SAE goes to `device`.

        Raises:
            UserError: codes, activations, images or truth are missing or do not belong together.
        """
        sae = load_estimator(layout.usae).to(device)
        manifests = load_manifests(layout.manifests, models)
        val = OpenedSplit.load(HELD_OUT, manifests, layout, store_root)
        encoded = layout.codes(TRAIN).is_dir()
        train = OpenedSplit.load(TRAIN, manifests, layout, store_root) if encoded else None
        training = {model: manifest.open(TRAIN, store_root) for model, manifest in manifests.items()}
        needed = {model for split in (val, train) if split for model in split.independent}
        baselines = {
            model: load_estimator(layout.baselines / model)
            for model in models
            if model in needed or (layout.baselines / model).is_dir()
        }
        labels = load_labels(layout.images, HELD_OUT, val.images)
        classes = load_classes(layout.images, HELD_OUT, val.images)
        probes = load_probes(layout.weights, models)
        return cls(models, sae, baselines, val, train, training, labels, classes, probes)

    @property
    def splits(self) -> dict[str, OpenedSplit]:
        """The encoded splits by name, the held-out one first."""
        return {HELD_OUT: self.val} | ({} if self.train is None else {TRAIN: self.train})
