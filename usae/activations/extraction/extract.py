"""One model's activations for both splits, in this process or on a cluster, and their manifest.

Stages `extract` and `untrained`. A finished chunk is never computed again: an interrupted run goes on where it
stopped, and a changed parameter that is changed back finds its old store, since the store's name carries a
fingerprint of all that matters.
"""

import dataclasses
import functools
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from usae.activations.extraction.extractor import Extraction, Extractor
from usae.activations.extraction.statistics import channel_moments, sample_moments
from usae.activations.extraction.work import Work, announce
from usae.activations.store import ActivationStore, chunk_images_for, store_root
from usae.activations.store.location import fingerprint
from usae.activations.store.manifests import Manifest, SplitManifest
from usae.activations.store.store import NATIVE_GRID
from usae.common.errors import UserError
from usae.common.layout import Layout
from usae.common.params import Params
from usae.common.runtime import cluster
from usae.common.runtime.device import configure
from usae.common.runtime.progress import advance, counter

if TYPE_CHECKING:
    from distributed import Client

REVISION = 2  # raised when the same settings come to give other activations
PRECISION_IMAGES = 16  # on which reduced precision is checked before a run

log = logging.getLogger("usae")


def extraction_of(params: Params, model: str, name: str, weights: Path, most: int | None = None) -> Extraction:
    """How the layer of the zoo's `model` is read; `name` is that of its stores, `weights` the pinned backbone.

    most: training images that are extracted; None: all.
    """
    return Extraction(
        model=name,
        weights=weights,
        layer=params.zoo[model].layer,
        norm=params.zoo[model].norm,
        images=Layout().images,
        root=params.images.path,
        params=params.extract,
        runtime=params.runtime,
        most=most,
    )


def extract(extraction: Extraction) -> Manifest:
    """Fill the stores of both splits and return the manifest that describes them.

    Raises:
        UserError: images, weights, disk, cluster or activations are not as they should be; what is done is kept.
    """
    extractor = Extractor.load(extraction, configure(extraction.runtime))
    stores = {split: create_store(extractor, split) for split in extractor.images}
    works = [extractor.left(split, store) for split, store in stores.items()]
    announce(works)
    fill(extractor, [work for work in works if work.chunks])
    return describe(extractor, stores)


def create_store(extractor: Extractor, split: str) -> ActivationStore:
    """The store of a split, named by model, split and a fingerprint of everything that counts."""
    extraction, identity, index = (
        extractor.extraction,
        extractor.forward.backbone.identity,
        extractor.images[split],
    )
    shape = (len(index), extraction.params.grid**2, extractor.forward.native_shape[0])
    itemsize = np.dtype(extraction.params.dtype).itemsize
    config: dict[str, Any] = {
        "images": index.digest,
        "weights": identity.sha256,
        "pixels": [identity.mean, identity.std, identity.interpolation],
        "size": identity.size,
        "timm": identity.timm_version,
        "layer": extraction.layer,
        "norm": extraction.norm,
        "chunk_images": chunk_images_for(*shape[1:], itemsize, len(index), extraction.params.chunk_images),
        "revision": REVISION,
        **extraction.params.model_dump(include={"grid", "fit", "dtype", "precision"}),
    }
    if extractor.forward.resampled:
        config[NATIVE_GRID] = list(extractor.forward.native_shape[1:])
    if extraction.params.grid == 1:
        config["pooled"] = "mean"
    path = store_root(extraction.runtime.store).absolute() / f"{extraction.model}-{split}-{fingerprint(config)}"
    attributes = {"model": extraction.model, "split": split, "config": config}
    return ActivationStore.create(path, shape, config["chunk_images"], extraction.params.dtype, attributes)


def fill(extractor: Extractor, works: Sequence[Work]) -> None:
    """Compute the chunks of all `works`, in this process or on the cluster that `runtime.dask` names."""
    extraction, where = extractor.extraction, extractor.extraction.runtime.dask
    if works and extraction.params.precision != "float32":
        pixels = extractor.pixels("train", min(PRECISION_IMAGES, len(extractor.images["train"])))
        moved = extractor.forward.check_precision(extraction.model, pixels)
        log.info("%s: %s moves %.1e of the variance", extraction.model, extraction.params.precision, moved)
    if where is None or not works:
        for work in works:
            follow(work, extractor.stream(work))
        return
    with cluster.connect(where) as client:
        for work in works:
            follow(work, _on_workers(client, extraction.for_workers(), work))


def follow(work: Work, computed: Iterator[int]) -> None:
    """Drive `computed` (numbers of images) behind a progress bar.

    Raises:
        UserError: as `computed` does, saying also what is kept.
    """
    name, started = f"{work.model} {work.split}", time.monotonic()
    try:
        with counter(work.images, description=name, unit="image") as bar:
            for images in computed:
                advance(bar, images, work.image_bytes)
    except UserError as error:
        raise UserError(f"{error}\n{work.kept()}") from error
    rate = work.images / (time.monotonic() - started)
    log.info("%s: %.1f images/s, %.1f MB/s", name, rate, rate * work.image_bytes / 1e6)


def describe(extractor: Extractor, stores: dict[str, ActivationStore]) -> Manifest:
    """The manifest of the finished stores.

    Raises:
        UserError: chunks and their moments do not belong together.
    """
    for store in stores.values():
        store.refuse_foreign_moments()
    extraction, train = extractor.extraction, stores["train"]
    order = extraction.params.statistics if train.resampled else "after"
    sample, sample_images = sample_moments(train, extraction.params.statistics_images, order)
    if sample.scalar()[1] == 0:
        raise UserError(
            f"'{extraction.model}' gives the same activations everywhere: there is nothing to find in them. "
            "Look at its weights, or choose another `layer`."
        )
    return Manifest.of(
        channel_moments(train, order),
        sample,
        model=extraction.model,
        backbone=dataclasses.asdict(extractor.forward.backbone.identity),
        layer=extraction.layer,
        norm=extraction.norm,
        grid=extraction.params.grid,
        fit=extraction.params.fit,
        dtype=extraction.params.dtype,
        statistics=order,
        statistics_images=sample_images,
        **{split: SplitManifest.of(store, extractor.images[split].digest) for split, store in stores.items()},
    )


def compute_chunk(extraction: Extraction, split: str, store: Path, chunk: int) -> str:
    """One chunk, in a worker process, which loads the backbone once; returns '' or what the user should know."""
    try:
        work = Work(extraction.model, split, ActivationStore.open(store), (chunk,))
        with _ONE_AT_A_TIME:
            for _ in _loaded(extraction).stream(work):
                pass
    except UserError as error:
        return str(error)
    return ""


def _on_workers(client: "Client", extraction: Extraction, work: Work) -> Iterator[int]:
    task = functools.partial(compute_chunk, extraction, work.split, work.store.path)
    for chunk, fault in cluster.compute(client, task, work.chunks):
        if fault:
            raise UserError(fault)
        yield len(work.store.span(chunk))


_ONE_AT_A_TIME = threading.Lock()  # a worker process may have several threads, but has one backbone


@functools.lru_cache(maxsize=1)
def _loaded(extraction: Extraction) -> Extractor:
    return Extractor.load(extraction, cluster.worker_device(configure(extraction.runtime)))
