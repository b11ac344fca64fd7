"""One model's layer, its images, and what of them a store still lacks (stages `extract` and `untrained`)."""

import dataclasses
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

    def beside(self, companion: Extraction) -> "Extractor | None":
        """Another layer of this network, to be read in the same pass; None where the other model's pinned network
        is another one, or has no such layer.

        Where nothing is pinned yet, this network counts as the one that will be: a store's name carries the digest
        of the weights, so that others would never find it.
        """
        backbone = self.forward.backbone
        try:
            if is_pinned(companion.weights) and read_identity(companion.weights) != backbone.identity:
                return None
            forward = dataclasses.replace(self.forward, backbone=backbone.at(companion.layer))
        except UserError:
            return None
        return Extractor(companion, forward, self.images)

    def left(self, split: str, store: ActivationStore) -> Work:
        """The chunks that `store` still lacks."""
        chunks = tuple(chunk for chunk in range(store.chunks) if not store.done(chunk))
        return Work(self.extraction.model, split, store, chunks)

    def pixels(self, split: str, images: int) -> torch.Tensor:
        """The first `images` images of a split, [images, 3, size, size] bytes."""
        with ThreadPoolExecutor(self.extraction.runtime.workers) as readers:
            return next(self.decoder(split).batches([range(images)], readers, ahead=0))

    def decoder(self, split: str) -> Decoder:
        """The images of a split as the network's pixels."""
        identity = self.forward.backbone.identity
        pinned = self.forward.device.type == "cuda"
        return Decoder(
            self.images[split], identity.size, self.extraction.params.fit, identity.interpolation, pinned
        )

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


def _remedy(value: float, dtype: str) -> str:
    if not np.isfinite(value):
        return "no type can hold. Look at its weights and at that image, or choose another `layer`."
    return f"{dtype} cannot hold. Choose another `layer`, or set `extract.dtype: float32`."
