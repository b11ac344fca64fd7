"""A small run of the same shape: a few of its pictures, its networks with random weights, their stores.

The way from a picture to the store is the stages' own; only the weights differ, which costs the same time.
"""

import dataclasses
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from usae.activations.extraction.extract import create_store, describe
from usae.activations.extraction.extractor import Extraction, Extractor
from usae.activations.extraction.joint import Pass
from usae.activations.store.location import ROOT_VARIABLE
from usae.activations.store.manifests import UNTRAINED, Manifest
from usae.backbones.weights.obtaining import obtain_untrained
from usae.common.params import ImagesParams, Params
from usae.images.sources.writing import write_images
from usae.showing.estimate.growth import Growth

FEWEST = 64  # training images
VAL = 16
BATCHES = 4  # of an extraction, so that decoding and networks overlap

log = logging.getLogger("usae")


@dataclass(frozen=True)
class Sample:
    """manifests: of every model, and under the names of the untrained ones the same again. root: of their stores.

    picture: seconds to list and check a picture. extract: seconds by model, those of a run of
    any size (the network read, the manifest written) and an image's.
    """

    params: Params
    manifests: Mapping[str, Manifest]
    root: Path
    picture: float
    extract: Mapping[str, Growth]
    device: torch.device

    @property
    def images(self) -> int:
        """Training images."""
        return next(iter(self.manifests.values())).train.images


def sample_images(params: Params) -> int:
    """Training images that it takes: two batches, and a token for every concept."""
    tokens = params.extract.grid**2
    return max(FEWEST, 2 * params.train.batch_images, -(-params.train.dictionary // tokens))


def sample(params: Params, scratch: Path, device: torch.device) -> Sample:
    """The small run, in the folder `scratch`, which is to lie on the disk of the stores.

    Raises:
        UserError: a network cannot be built, or a picture not be read.
    """
    folder, count = scratch / "images", sample_images(params)
    began = time.perf_counter()
    counts = write_images(folder, few_images(params.images, count), params.seed, params.runtime.workers)
    picture = (time.perf_counter() - began) / sum(split.readable for split in counts.values())
    manifests, extract = {}, {}
    with _store_at(scratch):
        for model in params.models:
            manifests[model], extract[model] = _extracted(params, model, scratch, counts["train"].readable, device)
    again = {
        f"{UNTRAINED}{model}": dataclasses.replace(own, model=f"{UNTRAINED}{model}")
        for model, own in manifests.items()
    }
    return Sample(params, manifests | again, scratch, picture, extract, device)


def few_images(images: ImagesParams, count: int) -> ImagesParams:
    """So many of the run's own pictures, and generated scenes where there are none yet."""
    if images.source == "shapes":
        there: dict[str, object] = {}
    elif Path(images.path or "").exists():
        there = {"val_share": 0.1}
    else:
        there = {"source": "shapes", "path": None}
    return images.model_copy(update={"train": count, "val": VAL, **there})


def _extracted(
    params: Params, model: str, scratch: Path, images: int, device: torch.device
) -> tuple[Manifest, Growth]:
    """A model's manifest, and what its extraction takes; an image's share after a first batch."""
    weights, batch = scratch / "weights" / model, max(1, images // BATCHES)
    obtain_untrained(params.zoo[model].backbone, weights, params.seed, model)
    runtime = params.runtime.model_copy(
        update={"batch_images": min(params.runtime.batch_images, batch), "dask": None}
    )
    source = few_images(params.images, images)
    extraction = Extraction(
        model, weights, params.zoo[model].layer, params.zoo[model].norm, scratch / "images", source.path,
        params.extract, runtime,
    )  # fmt: skip
    opened = time.perf_counter()
    extractor = Extractor.load(extraction, device)
    extractor.forward(extractor.pixels("val", VAL)).largest.cpu()
    stores = {split: create_store(extractor, split) for split in extractor.images}
    works = [extractor.left(split, store) for split, store in stores.items()]
    began = time.perf_counter()
    images = sum(sum(Pass([extractor], [work]).run()) for work in works)
    ended = time.perf_counter()
    manifest = describe(extractor, stores)
    log.info("timed %s: %.1f images a second", model, images / (ended - began))
    fixed = began - opened + time.perf_counter() - ended
    return manifest, Growth(fixed, (ended - began) / images)


@contextmanager
def _store_at(root: Path) -> Iterator[None]:
    """Stores go to `root`, whatever the environment says."""
    before = os.environ.get(ROOT_VARIABLE)
    os.environ[ROOT_VARIABLE] = str(root)
    try:
        yield
    finally:
        os.environ.pop(ROOT_VARIABLE)
        if before is not None:
            os.environ[ROOT_VARIABLE] = before
