"""Chunks of an activation store, computed from images: decoding, network and writing overlap (stage `extract`).

A chunk depends on its own images alone and its batches start anew with it: a resumed run, and a worker process
that is given single chunks, compute the same bytes as one run from end to end.
"""

import dataclasses
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from usae.activations.extraction.forward import Features, Forward
from usae.activations.extraction.pixels import Decoder
from usae.activations.extraction.work import Work
from usae.activations.store import ActivationStore, NativeMoments, image_spans
from usae.backbones.networks.backbone import Backbone
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

    def left(self, split: str, store: ActivationStore) -> Work:
        """The chunks that `store` still lacks."""
        chunks = tuple(chunk for chunk in range(store.chunks) if not store.done(chunk))
        return Work(self.extraction.model, split, store, chunks)

    def stream(self, work: Work) -> Iterator[int]:
        """Compute and write the chunks of `work`; yields the number of images after each batch.

        The next pixels are decoded and the last chunk is written meanwhile. At most two chunks of pixels wait.

        Raises:
            UserError: an image, an activation or the store is not as it should be; chunks written stay.
        """
        with ThreadPoolExecutor(self.extraction.runtime.workers) as readers, ThreadPoolExecutor(1) as writer:
            batches, writing = self._features(work, readers), deque[Future[None]]()
            for chunk in work.chunks:
                fetched = []
                for span in self._spans(work.store.span(chunk)):
                    fetched.append(self._fetched(next(batches), span, work.split))
                    yield len(span)
                while writing:
                    writing.popleft().result()
                writing.append(writer.submit(self._write, work.store, chunk, fetched))
            while writing:
                writing.popleft().result()

    def pixels(self, split: str, images: int) -> torch.Tensor:
        """The first `images` images of a split, [images, 3, size, size] bytes."""
        with ThreadPoolExecutor(self.extraction.runtime.workers) as readers:
            return next(self._decoder(split).batches([range(images)], readers, ahead=0))

    def _spans(self, images: range) -> list[range]:
        return image_spans(images, self.extraction.runtime.batch_images)

    def _features(self, work: Work, readers: ThreadPoolExecutor) -> Iterator[Features]:
        """The features of every batch; each is asked for before the previous one is awaited."""
        spans = (span for chunk in work.chunks for span in self._spans(work.store.span(chunk)))
        ahead = 2 if self.extraction.runtime.batch_images * 2 <= work.store.chunk_images else 1
        asked: deque[Features] = deque()
        try:
            for pixels in self._decoder(work.split).batches(spans, readers, ahead):
                asked.append(self.forward(pixels))
                if len(asked) > 1:
                    yield asked.popleft()
        except UserError:
            yield from asked  # of the images before the one that cannot be read
            raise
        yield from asked

    def _decoder(self, split: str) -> Decoder:
        identity = self.forward.backbone.identity
        pinned = self.forward.device.type == "cuda"
        return Decoder(
            self.images[split], identity.size, self.extraction.params.fit, identity.interpolation, pinned
        )

    def _fetched(self, features: Features, span: range, split: str) -> Fetched:
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

    def _write(self, store: ActivationStore, chunk: int, batches: list[Fetched]) -> None:
        metadata = store.path / "zarr.json"
        try:
            if metadata.is_file():
                self._save(store, chunk, batches)
        except FileNotFoundError:
            if metadata.is_file():
                raise
        if not metadata.is_file():
            raise UserError(
                f"The store {store.path} disappeared while '{self.extraction.model}' was being extracted. Was its "
                "disk unmounted, or the folder removed? Bring it back, or run the same command to make it anew."
            )

    def _save(self, store: ActivationStore, chunk: int, batches: list[Fetched]) -> None:
        by_image = [moments for _, moments in batches if moments is not None]
        native = NativeMoments.of(np.concatenate(by_image), store.native_tokens) if by_image else None
        store.write(chunk, np.concatenate([tokens for tokens, _ in batches]), native)


def _remedy(value: float, dtype: str) -> str:
    if not np.isfinite(value):
        return "no type can hold. Look at its weights and at that image, or choose another `layer`."
    return f"{dtype} cannot hold. Choose another `layer`, or set `extract.dtype: float32`."
