"""Activations into sparse codes, chunk by chunk (stage `encode`)."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from usae.activations.store import ActivationStore
from usae.activations.store.manifests import SPLITS, load_manifests
from usae.common.layout import START, Layout
from usae.common.runtime.amounts import say_fewer
from usae.common.runtime.progress import counter
from usae.evidence.codes.store import CodeChunk, CodeStore
from usae.evidence.estimators import load_estimator
from usae.sae.estimator import Concepts

ROWS = 8192  # tokens encoded at once: bounds the dense pre-codes in memory


def encode_all(
    models: Sequence[str], train_images: int, layout: Layout, store_root: Path, device: torch.device
) -> int:
    """Write the codes of both splits, of every model by the universal SAE, before and after training, by its twin
    where there is one, and by the model's own.

    train_images: how many training images; held-out ones are all encoded. Returns images, summed over models.
    """
    manifests = load_manifests(layout.manifests, tuple(models))
    say_fewer("encode.train_images", train_images, min(manifest.train.images for manifest in manifests.values()))
    images = 0
    for split, limit in zip(SPLITS, (train_images, None), strict=True):
        stores = {model: manifest.open(split, store_root) for model, manifest in manifests.items()}
        size = min(store.chunk_images for store in stores.values())
        for model, store in stores.items():
            for name, saved, folder in encoders(layout, split, model):
                count = encode_split(
                    load_estimator(saved), model, store, folder / model, name, limit, device, size
                )
            images += count
    return images


def encoders(layout: Layout, split: str, model: str) -> Iterator[tuple[str, Path, Path]]:
    """Name, folder and codes of every SAE that encodes a model."""
    yield "usae", layout.usae, layout.codes(split)
    yield "start", layout.usae / START, layout.start_codes(split)
    if layout.twin.is_dir():
        yield "twin", layout.twin, layout.twin_codes(split)
    if layout.independent(model).is_dir():  # there are none in a quick run
        yield "independent", layout.independent(model), layout.independent_codes(split)
    if layout.brief(model).is_dir():
        yield "brief", layout.brief(model), layout.brief_codes(split)


@torch.inference_mode()
def encode_split(
    sae: Concepts,
    model: str,
    store: ActivationStore,
    folder: Path,
    name: str,
    limit: int | None,
    device: torch.device,
    chunk_images: int | None = None,
) -> int:
    """Write the codes of the first `limit` images (None: all) to `folder`; returns how many.

    name: which SAE this is. chunk_images: images per chunk of the codes, which all models
    must share, whereas their activations may be chunked by width; None: the store's.
    """
    images = store.images if limit is None else min(limit, store.images)
    codes = CodeStore.create(
        folder,
        model=model,
        sae=name,
        images=images,
        grid=round(store.tokens**0.5),
        k=sae.k,
        concepts=sae.concepts,
        chunk_images=min(chunk_images or store.chunk_images, images),
    )
    sae = sae.to(device)
    with counter(images, description=os.path.join(*folder.parts[-2:]), unit="image") as bar:
        for chunk in range(codes.chunks):
            start = chunk * codes.chunk_images
            activations = store.take(range(start, min(start + codes.chunk_images, images)))  # (b, t, d)
            codes.write(chunk, *encoded(sae, model, np.asarray(activations), device))
            bar.update(len(activations))
    return images


@torch.inference_mode()
def code_chunk(
    sae: Concepts, model: str, activations: np.ndarray, images: np.ndarray, device: torch.device
) -> CodeChunk:
    """The codes of activations [b, t, d] of `images`, rounded as stage `encode` stores them."""
    indices, values = encoded(sae, model, activations, device)
    return CodeChunk(images, indices, values.astype(np.float16).astype(np.float32))


def encoded(
    sae: Concepts, model: str, activations: np.ndarray, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Indices and values [b, t, k] of activations [b, t, d]."""
    rows = torch.from_numpy(activations.reshape(-1, activations.shape[-1]).astype(np.float32))
    blocks = [sae.encode({model: block.to(device)})[model] for block in rows.split(ROWS)]
    shape = (*activations.shape[:2], sae.k)
    indices = torch.cat([block.indices.cpu() for block in blocks]).numpy().reshape(shape)
    values = torch.cat([block.values.cpu() for block in blocks]).numpy().reshape(shape)
    return indices, values
