"""The missing chunks of stores, computed in this process or on a cluster (stages `extract` and `untrained`)."""

import dataclasses
import functools
import logging
import math
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from usae.activations.extraction.extractor import Extraction, Extractor
from usae.activations.extraction.joint import Pass, image_batches
from usae.activations.extraction.work import Work
from usae.activations.store import ActivationStore
from usae.common.errors import UserError
from usae.common.runtime import cluster
from usae.common.runtime.device import configure
from usae.common.runtime.progress import advance, counter

if TYPE_CHECKING:
    from distributed import Client

PRECISION_IMAGES = 16  # on which reduced precision is checked before a run

Portion = tuple[tuple[int, ...], ...]  # chunks, by model of a pass

log = logging.getLogger("usae")


def fill(extractors: Sequence[Extractor], works: Sequence[Sequence[Work]]) -> None:
    """Compute the chunks of all `works`, in this process or on the cluster that `runtime.dask` names.

    works: those of one split each, in the order of `extractors`, which are read together.
    """
    where = extractors[0].extraction.runtime.dask
    if works:
        check_precision(extractors[0])
    if where is None or not works:
        for together in works:
            passing = Pass(extractors, together)
            follow(passing, passing.run())
        return
    with cluster.connect(where) as client:
        for together in works:
            passing = Pass(extractors, together)
            follow(passing, _on_workers(client, passing))


def check_precision(extractor: Extractor) -> None:
    """See on the first images that `extract.precision` is enough for this model.

    Raises:
        UserError: it is not.
    """
    extraction = extractor.extraction
    if extraction.params.precision == "float32":
        return
    pixels = extractor.pixels("train", min(PRECISION_IMAGES, len(extractor.images["train"])))
    moved = extractor.forward.check_precision(extraction.model, pixels)
    log.info("%s: %s moves %.1e of the variance", extraction.model, extraction.params.precision, moved)


def follow(passing: Pass, computed: Iterator[int]) -> None:
    """Drive `computed` (numbers of images) behind a progress bar.

    Raises:
        UserError: as `computed` does, saying also what is kept.
    """
    started, image_bytes = time.monotonic(), round(passing.bytes_to_come / passing.images)
    try:
        with counter(passing.images, description=str(passing), unit="image") as bar:
            for images in computed:
                advance(bar, images, image_bytes)
    except UserError as error:
        raise UserError(f"{error}\n{passing.works[0].kept()}") from error
    rate = passing.images / (time.monotonic() - started)
    log.info("%s: %.1f images/s, %.1f MB/s", passing, rate, rate * image_bytes / 1e6)


def compute_portion(
    extractions: Sequence[Extraction], split: str, stores: Sequence[Path], portion: Portion
) -> str:
    """Some chunks, in a worker process, which loads the backbone once; returns '' or what the user should know."""
    try:
        with _ONE_AT_A_TIME:
            extractors = _loaded(tuple(extractions))
            works = [
                Work(extractor.extraction.model, split, ActivationStore.open(store), chunks)
                for extractor, store, chunks in zip(extractors, stores, portion, strict=True)
            ]
            for _ in Pass(extractors, works).run():
                pass
    except UserError as error:
        return str(error)
    return ""


def portions(works: Sequence[Work]) -> list[Portion]:
    """The missing chunks of all stores, cut where a chunk of each store ends."""
    step = math.lcm(*(work.store.chunk_images for work in works))
    parts: dict[int, list[list[int]]] = {}
    for number, work in enumerate(works):
        for chunk in work.chunks:
            part = parts.setdefault(work.store.span(chunk).start // step, [[] for _ in works])
            part[number].append(chunk)
    return [tuple(map(tuple, parts[number])) for number in sorted(parts)]


def _on_workers(client: "Client", passing: Pass) -> Iterator[int]:
    extractions = [extractor.extraction.for_workers() for extractor in passing.extractors]
    stores, split = [work.store.path for work in passing.works], passing.works[0].split
    task = functools.partial(compute_portion, extractions, split, stores)
    for portion, fault in cluster.compute(client, task, portions(passing.works)):
        if fault:
            raise UserError(fault)
        lacking = [dataclasses.replace(work, chunks=own) for work, own in zip(passing.works, portion, strict=True)]
        yield sum(len(batch.images) for batch in image_batches(lacking, passing.runtime.batch_images))


_ONE_AT_A_TIME = threading.Lock()  # a worker process may have several threads, but has room for one of these


@functools.lru_cache(maxsize=1)
def _loaded(extractions: tuple[Extraction, ...]) -> list[Extractor]:
    """Models that are read together.

    Raises:
        UserError: a companion's network is no longer there.
    """
    asked, *companions = extractions
    extractor = Extractor.load(asked, cluster.worker_device(configure(asked.runtime)))
    joined = extractor.beside(companions)
    if None in joined:
        raise UserError("Weights of a model that is read with it changed meanwhile. Run the same command again.")
    return [extractor, *filter(None, joined)]
