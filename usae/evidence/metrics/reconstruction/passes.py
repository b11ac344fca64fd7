"""Passes over the activations of a split, beside its codes (stage `measure`).

One decodes the codes of each source model with the decoder of each target model and compares with the target's
activations, one fits linear maps.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from usae.activations.store import ActivationStore, image_spans
from usae.common.errors import UserError
from usae.common.numerics.ridge import VALIDATION, Products, ridge_r2, ridge_r2_others
from usae.common.runtime.cluster import HERE, Workers
from usae.common.runtime.progress import counter
from usae.common.types import Array, Unit
from usae.evidence.codes.store import CodeChunk, CodeStore, aligned_chunks
from usae.evidence.metrics.reconstruction.r2 import Ceilings, Reconstruction
from usae.sae.estimator import Concepts, Translator
from usae.sae.sparse import SparseCodes

BLOCK_IMAGES = 64
TASK_IMAGES = 512  # of codes that are decoded as one task
TASK_BLOCKS = 40  # of images whose products are one task; it sends as many numbers as columns squared


@dataclass(frozen=True)
class Spread:
    """The workers that a pass is given to, and what gives them its SAE there; by default all is done here."""

    workers: Workers = HERE
    opened: Callable[[], Concepts] | None = None

    def sae(self, sae: Concepts) -> Callable[[], Concepts]:
        """What gives the SAE where a task runs; here it is at hand."""
        return self.opened if self.workers.client is not None and self.opened is not None else lambda: sae


@dataclass(frozen=True)
class Residual:
    """The residuals of some chunks of codes, as paths and plain values: all that a worker process is told."""

    sae: Callable[[], Concepts]
    codes: Mapping[str, Path]
    activations: Mapping[str, ActivationStore]
    name: str
    split: str

    def __call__(self, chunks: range) -> Reconstruction:
        """Decode consecutive chunks of every source with every target."""
        sae, table = self.sae(), Reconstruction(self.name, self.split)
        for parts in aligned_chunks({model: CodeStore.open(path) for model, path in self.codes.items()}, chunks):
            sources = dict(zip(self.codes, parts, strict=True))
            for target, store in self.activations.items():
                truth = standardised(sae, target, store, parts[0].images)
                table.update(target, truth, decoded(sae, target, sources))
        return table


@dataclass(frozen=True)
class SideBySide:
    """Products of the activations of all models, as paths and plain values: all that a worker process is told."""

    sae: Callable[[], Concepts]
    stores: Mapping[str, ActivationStore]
    origin: Array

    def __call__(self, spans: Sequence[range]) -> Products:
        """Sums over the tokens of the images in `spans`."""
        sae, total = self.sae(), Products.none(self.origin)
        for span in spans:
            total.update(_side_by_side(sae, self.stores, np.array(span)))
        return total


def reconstruction(
    sae: Concepts,
    codes: Mapping[str, CodeStore],
    activations: Mapping[str, ActivationStore],
    *,
    name: str,
    split: str,
    spread: Spread = Spread(),
) -> Reconstruction:
    """Residuals of every target model in `activations` from the codes of every source model in `codes`.

    `name` and `split` are the values of the columns `sae` and `split`. The codes may cover the first images of
    the activations only. Raises UserError when they are not of the same images or grid. The sums of each task are
    added in the order of the images, wherever they were made.
    """
    refuse_mismatch(codes, activations)
    first, table = next(iter(codes.values())), Reconstruction(name, split)
    paths = {model: store.path.absolute() for model, store in codes.items()}
    task = Residual(spread.sae(sae), paths, _anywhere(activations), name, split)
    with counter(first.images, description=f"reconstruction {name}", unit="image") as bar:
        runs = chunk_runs(first)
        for chunks, part in zip(runs, spread.workers.in_order(task, runs), strict=True):
            table.merge(part)
            bar.update(min(chunks.stop * first.chunk_images, first.images) - chunks.start * first.chunk_images)
    return table


def chunk_runs(store: CodeStore) -> list[range]:
    """The chunks of each task."""
    return image_spans(range(store.chunks), max(1, TASK_IMAGES // store.chunk_images))


def linear_ceilings(
    sae: Concepts,
    train: Mapping[str, ActivationStore],
    val: Mapping[str, ActivationStore],
    val_images: int,
    spread: Spread = Spread(),
) -> Ceilings:
    """R2 on the first `val_images` of `val` of linear maps fitted on all images of `train`, as the SAE was.

    Empty for fewer than two training images, which leave none to choose the penalty with.
    """
    images = min(store.images for store in train.values())
    if images < 2:
        return Ceilings()
    fit, validation = training_products(sae, train, images, spread)
    test = _summed(sae, val, fit.origin, image_spans(range(val_images), BLOCK_IMAGES), "ridge, test", spread)
    sums, spans = (fit, validation, test), model_spans(train)
    return Ceilings(ridge_r2(*sums, spans), ridge_r2(*sums, spans, sae.k), ridge_r2_others(*sums, spans))


def training_products(
    sae: Concepts, train: Mapping[str, ActivationStore], images: int, spread: Spread = Spread()
) -> tuple[Products, Products]:
    """Sums over tokens of the first `images` training images, models side by side: to fit on, to validate."""
    step = max(1, min(BLOCK_IMAGES, images // VALIDATION))
    origin = _side_by_side(sae, train, np.arange(step)).mean(axis=0, dtype=np.float64)
    spans = image_spans(range(images), step)
    to_fit = [span for number, span in enumerate(spans) if number % VALIDATION]
    fit = _summed(sae, train, origin, to_fit, "ridge, fit", spread)
    return fit, _summed(sae, train, origin, spans[::VALIDATION], "ridge, penalty", spread)


def model_spans(stores: Mapping[str, ActivationStore]) -> dict[str, slice]:
    """The columns of each model where all stand side by side."""
    ends = np.cumsum([0, *(store.width for store in stores.values())])
    return {model: slice(int(a), int(b)) for model, a, b in zip(stores, ends, ends[1:], strict=False)}


def standardised(sae: Concepts, model: str, store: ActivationStore, images: Array) -> Array:
    """(images, tokens, width) activations of increasing images, in the units in which they are reconstructed."""
    return standard_units(sae, model, store.take(images).astype(np.float32))


@torch.inference_mode()
def standard_units(sae: Concepts, model: str, activations: Array) -> Array:
    """Raw activations [..., d], float32, in the units in which they are reconstructed."""
    raw = torch.from_numpy(activations).to(sae.device)
    return np.asarray(sae.standardise(model, raw).float().cpu().numpy())


@torch.inference_mode()
def decoded(sae: Concepts, target: str, sources: Mapping[str, CodeChunk]) -> Iterator[tuple[str, Array]]:
    """Per source model, its codes through the target's decoder, (images, tokens, width)."""
    device = sae.device
    for source, chunk in sources.items():
        indices = torch.from_numpy(chunk.indices.astype(np.int64)).to(device)  # (images, tokens, k)
        values = torch.from_numpy(chunk.values).to(device)  # (images, tokens, k)
        yield source, _translated(sae, source, target, SparseCodes(indices, values)).float().cpu().numpy()


def _translated(sae: Concepts, source: str, target: str, codes: SparseCodes) -> Tensor:
    if isinstance(sae, Translator):
        return sae.translate(source, target, codes)
    return sae.decode(target, codes)


@torch.inference_mode()
def features(sae: Concepts, model: str, store: ActivationStore, images: Array, unit: Unit = "image") -> Array:
    """Standardised activations of consecutive images: tokens (b * t, d), or their means (b, d) in float64."""
    raw = store.take(images)  # (images, tokens, width)
    rows = (
        raw.mean(axis=1, dtype=np.float64) if unit == "image" else raw.reshape(-1, raw.shape[2]).astype(np.float32)
    )
    return np.asarray(sae.standardise(model, torch.from_numpy(rows).to(sae.device)).cpu().numpy())


def refuse_mismatch(codes: Mapping[str, CodeStore], activations: Mapping[str, ActivationStore]) -> None:
    """Codes must be of the first images of the activations, and on their grid.

    Raises:
        UserError: they are not; every fault is named.
    """
    faults = [
        f"{source} has codes of {store.images} images x {store.tokens} tokens, {target} has activations of"
        f" {rows.images} x {rows.tokens}."
        for source, store in codes.items()
        for target, rows in activations.items()
        if store.images > rows.images or store.tokens != rows.tokens
    ]
    if faults:
        raise UserError.listing("Codes and activations disagree. Run `dvc repro encode`.", faults)


def _summed(
    sae: Concepts,
    stores: Mapping[str, ActivationStore],
    origin: Array,
    spans: Sequence[range],
    description: str,
    spread: Spread,
) -> Products:
    """Sums over the images of `spans`, task by task, added in their order wherever they were made."""
    tasks = [spans[start : start + TASK_BLOCKS] for start in range(0, len(spans), TASK_BLOCKS)]
    total, task = Products.none(origin), SideBySide(spread.sae(sae), _anywhere(stores), origin)
    with counter(len(spans), description=description, unit="block") as bar:
        for part_spans, part in zip(tasks, spread.workers.in_order(task, tasks), strict=True):
            total.merge(part)
            bar.update(len(part_spans))
    return total


def _anywhere(stores: Mapping[str, ActivationStore]) -> dict[str, ActivationStore]:
    """The same by absolute paths, for processes that run elsewhere."""
    return {model: replace(store, path=store.path.absolute()) for model, store in stores.items()}


def _side_by_side(sae: Concepts, stores: Mapping[str, ActivationStore], images: Array) -> Array:
    """(images * tokens, sum of widths) standardised activations of all models."""
    blocks = [standardised(sae, model, store, images) for model, store in stores.items()]
    return np.concatenate([block.reshape(-1, block.shape[-1]) for block in blocks], axis=1)
