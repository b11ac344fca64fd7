"""What earlier stages made, each opened once (stage `measure`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch

from usae.activations.store import ActivationStore
from usae.activations.store.manifests import Manifest, load_manifests
from usae.common.layout import START, Layout
from usae.common.types import Array
from usae.evidence.codes.store import CodeStore, open_codes
from usae.evidence.controls.names import TWIN
from usae.evidence.estimators import load_estimator
from usae.evidence.metrics.labels.labels import Labels
from usae.evidence.metrics.labels.loading import load_classes, load_labels, load_probes
from usae.evidence.metrics.measure.depth import Stream, streams
from usae.evidence.metrics.reconstruction.passes import refuse_mismatch
from usae.evidence.metrics.summary import HELD_OUT, TRAIN, USAE
from usae.sae.estimator import Estimator


@dataclass(frozen=True)
class OpenedSplit:
    """One split, by model in order.

    codes: of the universal SAE. start: of the same before its first step. twin: of its twin. alone: name of a
    kind of SAE of one model (`independent`, `brief`) -> its codes; these three are empty where there are none.
    """

    activations: Mapping[str, ActivationStore]
    codes: Mapping[str, CodeStore]
    start: Mapping[str, CodeStore]
    twin: Mapping[str, CodeStore]
    alone: Mapping[str, Mapping[str, CodeStore]]

    @classmethod
    def load(cls, split: str, manifests: Mapping[str, Manifest], layout: Layout, store_root: Path) -> Self:
        """Open activations and codes of `split`; UserError where they are missing or not of the same images."""
        activations = {model: manifest.open(split, store_root) for model, manifest in manifests.items()}
        codes = open_codes(layout.codes(split), tuple(manifests))
        refuse_mismatch(codes, activations)
        folders = {"independent": layout.independent_codes(split), "brief": layout.brief_codes(split)}
        alone = {
            name: {model: open_codes(folder, [model])[model] for model in manifests}
            for name, folder in folders.items()
            if folder.is_dir()
        }
        start, twin = (
            open_codes(folder, tuple(manifests)) if folder.is_dir() else {}
            for folder in (layout.start_codes(split), layout.twin_codes(split))
        )
        return cls(activations, codes, start, twin, alone)

    @property
    def images(self) -> int:
        """How many images have codes."""
        return next(iter(self.codes.values())).images


@dataclass(frozen=True)
class Opened:
    """All that `evaluate` reads. train: the encoded training images, None where there are none.

    start, twin: the universal SAE before its first step, and its twin; None where it is not there. alone: the
    SAEs of one model each that there are, by kind and model. training: activations of all training images.
    labels, classes: of the held-out images. means: raw mean token by model. probes: table `probes`.
    streams: the network and the layer of each model. layout: where the SAEs lie.
    """

    models: tuple[str, ...]
    sae: Estimator
    start: Estimator | None
    twin: Estimator | None
    alone: Mapping[str, Mapping[str, Estimator]]
    val: OpenedSplit
    train: OpenedSplit | None
    training: Mapping[str, ActivationStore]
    means: Mapping[str, Array]
    labels: Labels | None
    classes: Array | None
    probes: pd.DataFrame
    streams: Mapping[str, Stream]
    layout: Layout

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
        means = {model: np.array(manifest.channel_mean) for model, manifest in manifests.items()}
        folders = {"independent": layout.independent, "brief": layout.brief}
        alone = {
            name: {model: load_estimator(folders[name](model)).to(device) for model in codes}
            for name, codes in val.alone.items()
        }
        start, twin = (
            load_estimator(folder).to(device) if folder.is_dir() else None
            for folder in (layout.usae / START, layout.twin)
        )
        labels = load_labels(layout.images, HELD_OUT, val.images)
        classes = load_classes(layout.images, HELD_OUT, val.images)
        probes = load_probes(layout.weights, models)
        return cls(
            models,
            sae,
            start,
            twin,
            alone,
            val,
            train,
            training,
            means,
            labels,
            classes,
            probes,
            streams(manifests),
            layout,
        )

    def folder(self, name: str, model: str | None = None) -> Path:
        """Where the SAE lies that is measured as `name`, of all models or of one; absolute."""
        if model is not None:
            return {"independent": self.layout.independent, "brief": self.layout.brief}[name](model).absolute()
        folders = {USAE: self.layout.usae, START: self.layout.usae / START, TWIN: self.layout.twin}
        return folders[name].absolute()

    @property
    def splits(self) -> dict[str, OpenedSplit]:
        """The encoded splits by name, the held-out one first."""
        return {HELD_OUT: self.val} | ({} if self.train is None else {TRAIN: self.train})
