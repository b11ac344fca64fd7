"""Passes over the activations of a split, beside its codes (stage `measure`).

One decodes the codes of each source model with the decoder of each target model and compares with the target's
activations, one fits linear maps.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from usae.activations.store import ActivationStore, image_spans
from usae.common.errors import UserError
from usae.common.numerics.ridge import VALIDATION, Products, ridge_r2, ridge_r2_others
from usae.common.runtime.progress import progress
from usae.common.types import Array, Unit
from usae.evidence.codes.store import CodeChunk, CodeStore, aligned_chunks
from usae.evidence.metrics.reconstruction.r2 import Ceilings, Reconstruction
from usae.sae.estimator import Concepts, Translator
from usae.sae.sparse import SparseCodes

BLOCK_IMAGES = 64


def reconstruction(
    sae: Concepts,
    codes: Mapping[str, CodeStore],
    activations: Mapping[str, ActivationStore],
    *,
    name: str,
    split: str,
) -> Reconstruction:
    """Residuals of every target model in `activations` from the codes of every source model in `codes`.

    `name` and `split` are the values of the columns `sae` and `split`. The codes may cover the first images of
    the activations only. Raises UserError when they are not of the same images or grid.
    """
    refuse_mismatch(codes, activations)
    table = Reconstruction(name, split)
    total = next(iter(codes.values())).chunks
    bar = progress(aligned_chunks(codes), total=total, description=f"reconstruction {name}", unit="chunk")
    for chunks in bar:
        sources = dict(zip(codes, chunks, strict=True))
        for target, store in activations.items():
            truth = standardised(sae, target, store, chunks[0].images)
            table.update(target, truth, decoded(sae, target, sources))
    return table


def linear_ceilings(
    sae: Concepts, train: Mapping[str, ActivationStore], val: Mapping[str, ActivationStore], val_images: int
) -> Ceilings:
    """R2 on the first `val_images` of `val` of linear maps fitted on all images of `train`, as the SAE was.

    Empty for fewer than two training images, which leave none to choose the penalty with.
    """
    images = min(store.images for store in train.values())
    if images < 2:
        return Ceilings()
    fit, validation = training_products(sae, train, images)
    test = Products.none(fit.origin)
    for block in _runs(val_images, BLOCK_IMAGES, "ridge, test"):
        test.update(_side_by_side(sae, val, block))
    sums, spans = (fit, validation, test), model_spans(train)
    return Ceilings(ridge_r2(*sums, spans), ridge_r2(*sums, spans, sae.k), ridge_r2_others(*sums, spans))


def training_products(
    sae: Concepts, train: Mapping[str, ActivationStore], images: int
) -> tuple[Products, Products]:
    """Sums over tokens of the first `images` training images, models side by side: to fit on, to validate."""
    step = max(1, min(BLOCK_IMAGES, images // VALIDATION))
    origin = _side_by_side(sae, train, np.arange(step)).mean(axis=0, dtype=np.float64)
    fit, validation = Products.none(origin), Products.none(origin)
    for index, block in enumerate(_runs(images, step, "ridge, fit")):
        (fit if index % VALIDATION else validation).update(_side_by_side(sae, train, block))
    return fit, validation


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


def _runs(images: int, step: int, description: str) -> Iterator[Array]:
    """Consecutive images, `step` at a time."""
    runs = [np.array(span) for span in image_spans(range(images), step)]
    yield from progress(runs, total=len(runs), description=description, unit="block")


def _side_by_side(sae: Concepts, stores: Mapping[str, ActivationStore], images: Array) -> Array:
    """(images * tokens, sum of widths) standardised activations of all models."""
    blocks = [standardised(sae, model, store, images) for model, store in stores.items()]
    return np.concatenate([block.reshape(-1, block.shape[-1]) for block in blocks], axis=1)
