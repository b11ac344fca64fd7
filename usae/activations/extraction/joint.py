"""One pass over images that fills the stores of several models (stages `extract` and `untrained`): layers of one
network, or of several.

Decoding, networks and writing overlap. A chunk depends on its own images alone and its batches start anew with it:
a resumed run, a worker process that is given single chunks, and a pass for other models beside it compute the same
bytes as one run from end to end.
"""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from usae.activations.extraction.extractor import Extractor, Fetched
from usae.activations.extraction.forward import Features, forward_pass
from usae.activations.extraction.work import Work
from usae.activations.store import ActivationStore, NativeMoments, image_spans
from usae.common.errors import UserError
from usae.common.runtime.device import freed_memory_kept
from usae.images.pixels.geometry import Square

log = logging.getLogger("usae")


@dataclass(frozen=True)
class ChunkPart:
    """A batch as a part of one store's chunk. model: its number in the pass. ends: whether it is the last part."""

    model: int
    chunk: int
    ends: bool


@dataclass(frozen=True)
class ImageBatch:
    """Images of one forward pass, and the chunks that they are parts of, at most one a model."""

    images: range
    parts: tuple[ChunkPart, ...]


Computed = tuple[ImageBatch, list[tuple[ChunkPart, Features]]]


def image_batches(works: Sequence[Work], size: int) -> list[ImageBatch]:
    """The batches of at most `size` images that fill all chunks of `works`, in the images' order.

    Each chunk has the batches that it would have alone; those that several stores have in common are one.
    """
    parts = sorted(
        (span.start, span.stop, number, chunk, span.stop == work.store.span(chunk).stop)
        for number, work in enumerate(works)
        for chunk in work.chunks
        for span in image_spans(work.store.span(chunk), size)
    )
    return [
        ImageBatch(range(*ends), tuple(ChunkPart(*part[2:]) for part in group))
        for ends, group in groupby(parts, key=lambda part: part[:2])
    ]


class Pass:
    """Models that are read together, and what the store of each still lacks of a split.

    The first model is the one that was asked for. The others are its companions: one that cannot be stored is left
    out from there on, and its own stage says why.
    """

    def __init__(self, extractors: Sequence[Extractor], works: Sequence[Work]) -> None:
        self.extractors, self.works = extractors, works
        self.runtime = extractors[0].extraction.runtime
        self.batches = image_batches(works, self.runtime.batch_images)
        self._fetched: list[list[Fetched]] = [[] for _ in works]  # of the chunk at hand, by model
        self._writing: deque[tuple[int, Future[None]]] = deque()
        self._left_out: set[int] = set()

    @property
    def images(self) -> int:
        """How many images are decoded."""
        return sum(len(batch.images) for batch in self.batches)

    @property
    def bytes_to_come(self) -> int:
        """Size of the activations that are to be computed."""
        return sum(work.images * work.image_bytes for work in self.works)

    def __str__(self) -> str:
        return f"{', '.join(work.model for work in self.works if work.chunks)} {self.works[0].split}"

    def run(self) -> Iterator[int]:
        """Compute and write the chunks; yields the number of images after each batch.

        The next pixels are decoded and the last chunks are written meanwhile. At most two chunks of pixels wait.

        Raises:
            UserError: an image, an activation or the store is not as it should be; chunks written stay.
        """
        workers = self.runtime.workers
        with freed_memory_kept(), ThreadPoolExecutor(workers) as readers, ThreadPoolExecutor(1) as writer:
            for batch, features in self._features(readers):
                for part, own in features:
                    self._take(part, own, batch.images, writer)
                yield len(batch.images)
            self._settle(0)

    def _features(self, readers: ThreadPoolExecutor) -> Iterator[Computed]:
        """The features of every batch; each is asked for before the previous one is awaited."""
        chunk = min(work.store.chunk_images for work in self.works)
        ahead = 2 if self.runtime.batch_images * 2 <= chunk else 1
        decoder = self.extractors[0].decoder(self.works[0].split)
        decoded = decoder.batches(map(self._wanted, self.batches), readers, ahead)
        asked: deque[Computed] = deque()
        try:
            for batch, pixels in zip(self.batches, decoded, strict=True):
                parts = [part for part in batch.parts if part.model not in self._left_out]
                forwards = [self.extractors[part.model].forward for part in parts]
                asked.append((batch, list(zip(parts, forward_pass(forwards, pixels), strict=True))))
                if len(asked) > 1:
                    yield asked.popleft()
        except UserError:
            yield from asked  # of the images before the one that cannot be read
            raise
        yield from asked

    def _wanted(self, batch: ImageBatch) -> tuple[range, set[Square]]:
        """What is to be decoded for a batch."""
        return batch.images, {self.extractors[part.model].forward.square for part in batch.parts}

    def _take(self, part: ChunkPart, features: Features, images: range, writer: ThreadPoolExecutor) -> None:
        """Fetch what is of one model, and have its chunk written where that was the last part of it."""
        if part.model in self._left_out:
            return
        work, fetched = self.works[part.model], self._fetched[part.model]
        with self._own_fault(part.model):
            fetched.append(self.extractors[part.model].fetched(features, images, work.split))
        if part.ends and part.model not in self._left_out:
            self._settle(len(self.works) - 1)
            self._fetched[part.model] = []
            self._writing.append((part.model, writer.submit(_write, work, part.chunk, fetched)))

    def _settle(self, most: int) -> None:
        """Wait until at most so many chunks are still being written."""
        while len(self._writing) > most:
            model, future = self._writing.popleft()
            with self._own_fault(model):
                future.result()

    @contextmanager
    def _own_fault(self, model: int) -> Iterator[None]:
        """What ends the extraction of the model that was asked for, and of a companion its part in it."""
        try:
            yield
        except UserError as error:
            if model == 0:
                raise
            self._left_out.add(model)
            log.warning("'%s' is left to its own extraction. %s", self.works[model].model, error)


def _write(work: Work, chunk: int, batches: list[Fetched]) -> None:
    metadata = work.store.path / "zarr.json"
    try:
        if metadata.is_file():
            _save(work.store, chunk, batches)
    except FileNotFoundError:
        if metadata.is_file():
            raise
    if not metadata.is_file():
        raise UserError(
            f"The store {work.store.path} disappeared while '{work.model}' was being extracted. Was its "
            "disk unmounted, or the folder removed? Bring it back, or run the same command to make it anew."
        )


def _save(store: ActivationStore, chunk: int, batches: list[Fetched]) -> None:
    by_image = [moments for _, moments in batches if moments is not None]
    native = NativeMoments.of(np.concatenate(by_image), store.native_tokens) if by_image else None
    store.write(chunk, np.concatenate([tokens for tokens, _ in batches]), native)
