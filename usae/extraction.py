"""Images through a backbone into an activation store, chunk by chunk (stage `extract`).

A finished chunk is never computed again: an interrupted run goes on where it stopped, and a changed parameter
that is changed back finds its old store, since the store's name carries a fingerprint of all that matters.
"""

import dataclasses
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from usae.backbones import Backbone
from usae.errors import UserError
from usae.geometry import fit_image
from usae.images import ImageIndex
from usae.manifests import Manifest, SplitManifest, fingerprint
from usae.params import ExtractParams, RuntimeParams
from usae.progress import counter
from usae.store import ActivationStore, Moments, store_root


@dataclass(frozen=True)
class Extraction:
    """One model's extraction: what is read, how, and where it goes."""

    model: str
    backbone: Backbone
    params: ExtractParams
    runtime: RuntimeParams
    device: torch.device

    def run(self, images: dict[str, ImageIndex]) -> Manifest:
        """Extract every split, and describe the result."""
        stores = {split: self.store(split, index) for split, index in images.items()}
        for split, index in images.items():
            self.fill(stores[split], index, f"{self.model} {split}")
        splits = {split: self._describe(stores[split], index) for split, index in images.items()}
        mean, std, counted = scalar_statistics(stores["train"], self.params.statistics_images)
        channels = merged_moments(stores["train"])
        return Manifest(
            model=self.model,
            backbone=dataclasses.asdict(self.backbone.identity),
            layer=self.backbone.layer,
            norm=self.backbone.norm,
            grid=self.params.grid,
            fit=self.params.fit,
            dtype=self.params.dtype,
            width=stores["train"].width,
            mean=mean,
            std=std,
            statistics_images=counted,
            channel_mean=tuple(channels.mean.tolist()),
            channel_std=tuple(np.sqrt(channels.m2 / channels.count).tolist()),
            **splits,
        )

    def store(self, split: str, index: ImageIndex) -> ActivationStore:
        """The store for `index`, named by model, split and a fingerprint of everything that counts."""
        config = {
            "images": index.digest,
            "weights": self.backbone.identity.sha256,
            "pixels": [
                self.backbone.identity.mean,
                self.backbone.identity.std,
                self.backbone.identity.interpolation,
            ],
            "size": self.backbone.size,
            "timm": self.backbone.identity.timm_version,
            "layer": self.backbone.layer,
            "norm": self.backbone.norm,
            **{key: getattr(self.params, key) for key in ("grid", "fit", "dtype", "chunk_images")},
        }
        path = store_root(self.runtime.store) / f"{self.model}-{split}-{fingerprint(config)}"
        tokens, width = self._token_shape()
        attributes = {"model": self.model, "split": split, "config": config}
        shape = (len(index), tokens, width)
        return ActivationStore.create(path, shape, self.params.chunk_images, self.params.dtype, attributes)

    def fill(self, store: ActivationStore, index: ImageIndex, description: str) -> None:
        """Compute and write every chunk that is not there yet; the next one is decoded meanwhile."""
        waiting = [chunk for chunk in range(store.chunks) if not store.done(chunk)]
        spans = [store.span(chunk) for chunk in waiting]
        bar = counter(sum(map(len, spans)), description=description, unit="image")
        with ThreadPoolExecutor(self.runtime.workers) as pool, bar:
            for chunk, pixels in zip(waiting, self._decoded(index, spans, pool), strict=True):
                store.write(chunk, self.activations(pixels, chunk))
                bar.update(len(pixels))

    def activations(self, pixels: np.ndarray, chunk: int) -> np.ndarray:
        """Bytes [b, 3, size, size] -> activations [b, token, channel] in the store's type.

        Raises:
            UserError: a value is not finite, or too large for the type.
        """
        batches = torch.from_numpy(pixels).split(self.runtime.batch_images)
        with torch.inference_mode():
            tokens = torch.cat([self.backbone.tokens(b.to(self.device).float() / 255).cpu() for b in batches])
        largest = tokens.abs().max().item()
        if not largest <= float(np.finfo(self.params.dtype).max):
            raise UserError(
                f"'{self.model}' gives activations up to {largest:g} in chunk {chunk}, which {self.params.dtype} "
                "cannot hold. Choose another `layer`, or set `extract.dtype: float32`."
            )
        return tokens.numpy().astype(self.params.dtype)

    def _decoded(self, index: ImageIndex, spans: list[range], pool: ThreadPoolExecutor) -> Iterator[np.ndarray]:
        """Pixels of each span, one span ahead of the reader."""

        def load(image: int) -> np.ndarray:
            interpolation = self.backbone.identity.interpolation
            return fit_image(index.open(image), self.backbone.size, self.params.fit, interpolation)

        ahead: deque[list[Future[np.ndarray]]] = deque()
        for span in spans:
            ahead.append([pool.submit(load, image) for image in span])
            if len(ahead) > 1:
                yield _stacked(ahead.popleft())
        yield from map(_stacked, ahead)

    def _token_shape(self) -> tuple[int, int]:
        size = self.backbone.size
        with torch.inference_mode():
            _, tokens, width = self.backbone.tokens(torch.zeros(1, 3, size, size, device=self.device)).shape
        return tokens, width

    def _describe(self, store: ActivationStore, index: ImageIndex) -> SplitManifest:
        crc32c = tuple(store.checksum(chunk) for chunk in range(store.chunks))
        return SplitManifest(store.path.name, len(index), index.digest, store.chunk_images, crc32c)


def extract(
    model: str,
    backbone: Backbone,
    images: dict[str, ImageIndex],
    params: ExtractParams,
    runtime: RuntimeParams,
    device: torch.device,
) -> Manifest:
    """Fill the stores of `model` for each split of `images` and return its manifest."""
    return Extraction(model, backbone.to(device), params, runtime, device).run(images)


def merged_moments(store: ActivationStore) -> Moments:
    """Channel moments over the whole store, from the chunks' own; reads no activation."""
    total = Moments.none(store.width)
    for chunk in range(store.chunks):
        total = total.merge(store.moments(chunk))
    return total


def scalar_statistics(store: ActivationStore, count: int | None) -> tuple[float, float, int]:
    """The paper's standardisation: one mean, one std over all tokens and channels of `count` images (None: all).

    The first images are a fair sample, since the index is in random order. Returns (mean, unbiased std, images).
    """
    wanted = store.images if count is None else min(count, store.images)
    total = Moments.none(store.width)
    for chunk in range(-(-wanted // store.chunk_images)):
        span = store.span(chunk)
        whole = span.stop <= wanted
        total = total.merge(store.moments(chunk) if whole else _moments(store.chunk(chunk)[: wanted - span.start]))
    return *total.scalar(), wanted


def _stacked(pixels: list[Future[np.ndarray]]) -> np.ndarray:
    return np.stack([future.result() for future in pixels])  # (images, 3, size, size)


def _moments(activations: np.ndarray) -> Moments:
    return Moments.of(activations.reshape(-1, activations.shape[-1]))
