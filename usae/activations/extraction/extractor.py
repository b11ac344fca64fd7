"""One model's layer, its images, and what of them a store still lacks (stages `extract` and `untrained`)."""

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from usae.activations.extraction.forward import Features, Forward
from usae.activations.extraction.pixels import Decoder
from usae.activations.extraction.work import Work
from usae.activations.store import ActivationStore
from usae.backbones.networks.backbone import Backbone, is_pinned, read_identity
from usae.common.errors import UserError
from usae.common.params import ExtractParams, RuntimeParams
from usae.common.runtime.cluster import worker_runtime
from usae.images.pixels.index import ImageIndex, load_splits

Fetched = tuple[np.ndarray, np.ndarray | None]  # tokens of a batch, and its moments before resampling


@dataclass(frozen=True)
class Extraction:
    """How one model is read, as paths and plain values: all that a worker process is told.

    weights: folder of the pinned backbone. images: folder of the indexes; root: what their paths are relative to.
    most: training images that are extracted, the first ones; None: all.
    """

    model: str
    weights: Path
    layer: int | str
    norm: bool
    images: Path
    root: str | None
    params: ExtractParams
    runtime: RuntimeParams
    most: int | None = None

    def for_workers(self) -> "Extraction":
        """The same for processes that run elsewhere."""
        return dataclasses.replace(
            self,
            weights=self.weights.absolute(),
            images=self.images.absolute(),
            root=None if self.root is None else str(Path(self.root).absolute()),
            runtime=worker_runtime(self.runtime),
        )


@dataclass(frozen=True)
class Extractor:
    """An extraction with its backbone and image indexes loaded."""

    extraction: Extraction
    forward: Forward
    images: dict[str, ImageIndex]

    @classmethod
    def load(cls, extraction: Extraction, device: torch.device) -> "Extractor":
        """Read the weights and the indexes that `extraction` names."""
        backbone = Backbone.load(extraction.weights, extraction.layer, extraction.params.grid, extraction.norm).to(
            device
        )
        images = load_splits(extraction.images, extraction.root)
        images["train"] = images["train"].first(extraction.most)
        return cls(extraction, Forward(backbone, extraction.params, device), images)

    def beside(self, companions: Sequence[Extraction]) -> list["Extractor | None"]:
        """Other models, to be read in the same pass: layers of this network, or (`runtime.one_pass: models`) of
        others; None where there is no such layer, or another network is not to be read or cannot be.

        Where nothing is pinned yet, this network counts as the one that will be: a store's name carries the digest
        of the weights, so that others would never find it.
        """
        networks = [self.forward.backbone]
        backbones = [_backbone(companion, networks) for companion in companions]
        return [
            None
            if backbone is None
            else Extractor(companion, dataclasses.replace(self.forward, backbone=backbone), self.images)
            for companion, backbone in zip(companions, backbones, strict=True)
        ]

    def left(self, split: str, store: ActivationStore) -> Work:
        """The chunks that `store` still lacks."""
        chunks = tuple(chunk for chunk in range(store.chunks) if not store.done(chunk))
        return Work(self.extraction.model, split, store, chunks)

    def pixels(self, split: str, images: int) -> torch.Tensor:
        """The first `images` images of a split, [images, 3, size, size] bytes."""
        square = self.forward.square
        with ThreadPoolExecutor(self.extraction.runtime.workers) as readers:
            return next(self.decoder(split).batches([(range(images), {square})], readers, ahead=0))[square]

    def decoder(self, split: str) -> Decoder:
        """The images of a split."""
        return Decoder(self.images[split], pinned=self.forward.device.type == "cuda")

    def fetched(self, features: Features, span: range, split: str) -> Fetched:
        """What a forward pass gave for the images of `span`, waited for.

        Raises:
            UserError: it cannot be stored.
        """
        largest, dtype = features.largest.cpu(), self.extraction.params.dtype
        width, expected = features.tokens.shape[2], self.forward.native_shape[0]
        if width != expected:
            raise UserError(
                f"'{self.extraction.model}' gives activations of width {width} for {len(span)} images at once, "
                f"and of width {expected} for one. A network must treat every image of a batch alike: look at it."
            )
        for row in (~(largest <= float(np.finfo(dtype).max))).nonzero().flatten().tolist():
            value, key = largest[row].item(), self.images[split].frame["key"][span[row]]
            raise UserError(
                f"'{self.extraction.model}' gives activations up to {value:g} for {split} image {span[row]} "
                f"('{key}'), which {_remedy(value, dtype)}"
            )
        return features.tokens.cpu().numpy(), None if features.native is None else features.native.cpu().numpy()


def _backbone(companion: Extraction, networks: list[Backbone]) -> Backbone | None:
    """Its network at its layer: one of `networks`, where it is the same, or loaded, and added to them."""
    first, known = networks[0], is_pinned(companion.weights)
    try:
        identity = read_identity(companion.weights) if known else first.identity
        for network in networks:
            if network.identity == identity:
                return network.at(companion.layer, companion.norm)
        if companion.runtime.one_pass != "models":
            return None
        own = Backbone.load(companion.weights, companion.layer, first.grid, companion.norm).to(first.mean.device)
    except UserError:
        return None
    networks.append(own)
    return own


def _remedy(value: float, dtype: str) -> str:
    if not np.isfinite(value):
        return "no type can hold. Look at its weights and at that image, or choose another `layer`."
    return f"{dtype} cannot hold. Choose another `layer`, or set `extract.dtype: float32`."
