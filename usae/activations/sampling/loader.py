"""Batches on the device, made ready while the caller works on others (stage `train`).

The batches are a function of the plan and the step alone: where they come from (chunk files or the device's own
memory), at which step one starts, and over how many processes they are shared out, changes none of their values.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from usae.activations.sampling.order import Pick, Plan, Sampler, check_batch
from usae.activations.sampling.paired import PairedActivations
from usae.activations.sampling.pairing import Batch
from usae.activations.sampling.prefetch import ahead
from usae.activations.sampling.resident import Resident, keeps, on_device

BATCHES_AHEAD = 2
READ_AHEAD = 16  # steps by which whole chunks are read before their images are


@dataclass(frozen=True)
class Loaded:
    """What some consecutive batches are taken from: activations on the device as stored, and each one's index."""

    picks: list[Pick]
    activations: dict[str, Tensor]
    indices: list[Tensor | None]  # into the first dimension of the activations; None: all
    copied: "torch.cuda.Event | None"


class Loader:
    """Batches of `data` by `plan`. resident: keep the set on the device; auto: on a GPU, if it has the room.

    share: (number of this process, of how many). waited: seconds that `batches` has kept its caller waiting.
    """

    def __init__(
        self,
        data: PairedActivations,
        plan: Plan,
        device: torch.device,
        resident: Resident = "auto",
        share: tuple[int, int] = (0, 1),
    ) -> None:
        check_batch(plan.batch_images, data.images)
        self.data, self.device, self.share = data, device, share
        self.sampler = Sampler(plan, data.images, data.tokens, data.chunk_images)
        self.waited = 0.0
        self._on_gpu = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if self._on_gpu else None
        self._set = on_device(data, device) if keeps(data, device, resident) else None

    @property
    def resident(self) -> bool:
        """Whether the set lies on the device."""
        return self._set is not None

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every token is seen once; the last one may be smaller."""
        return self.sampler.steps_per_epoch

    def batches(self, first_step: int, last_step: int) -> Iterator[Batch]:
        """The batches of the steps from `first_step` up to `last_step`, that one excluded.

        Raises:
            UserError: a chunk cannot be read.
        """
        sources = self._loaded(first_step, last_step)
        while loaded := self._awaited(sources):
            for pick, index in zip(loaded.picks, loaded.indices, strict=True):
                yield self._batch(pick, loaded, index)

    def _awaited(self, sources: Iterator[Loaded]) -> Loaded | None:
        """The next of them, when it has arrived on the device."""
        began = time.perf_counter()
        loaded = next(sources, None)
        if loaded is not None and loaded.copied is not None:
            loaded.copied.synchronize()
        self.waited += time.perf_counter() - began
        return loaded

    def _loaded(self, first: int, last: int) -> Iterator[Loaded]:
        """Images that are read together, in the background, and the batches that are taken from them."""
        steps = iter(range(first, last))
        if self._set is None and self.sampler.plan.window_images is not None:
            steps = ahead(self._with_chunks_read(first, last), READ_AHEAD)
        picks = map(self.sampler.pick, steps)
        groups = (list(group) for _, group in groupby(picks, key=lambda pick: (pick.epoch, pick.window)))
        return ahead(map(self._load, groups), 1 if self.sampler.plan.shuffle_tokens else BATCHES_AHEAD)

    def _with_chunks_read(self, first: int, last: int) -> Iterator[int]:
        """The steps, each when the chunks of its window lie in the page cache."""
        read = 0
        end = -(-last // self.steps_per_epoch) * self.sampler.chunks
        for step in range(first, last):
            due = self.sampler.chunks_due(step)
            for number in range(max(read, due.start), min(due.stop, end)):
                self.data.read_through(self.sampler.chunk_at(number))
            read = max(read, due.stop)
            yield step

    def _load(self, picks: list[Pick]) -> Loaded:
        """The activations that the batches need; they share their images."""
        mine = [pick.share(*self.share) for pick in picks]
        if self._set is None:
            activations = self.data.gather(mine[0].images, pinned=self._on_gpu)
            indices = [pick.rows for pick in mine]
        else:
            activations, indices = self._set, [self._in_set(pick) for pick in mine]
        if self.sampler.plan.shuffle_tokens:
            activations = {model: stored.flatten(0, 1) for model, stored in activations.items()}  # (tokens, width)
        return self._copied(picks, activations, indices)

    def _in_set(self, pick: Pick) -> np.ndarray:
        """Where the batch lies in the resident set: numbers of images, or of tokens."""
        if pick.rows is None:
            return pick.images
        image, position = np.divmod(pick.rows, self.data.tokens)
        return pick.images[image] * self.data.tokens + position

    def _copied(self, picks: list[Pick], stored: dict[str, Tensor], rows: Sequence[np.ndarray | None]) -> Loaded:
        """On the device; to a GPU by a stream of its own, beside the caller's work."""
        indices = [None if index is None else torch.tensor(index) for index in rows]
        if self._stream is None:
            return Loaded(picks, stored, indices, None)
        with torch.cuda.stream(self._stream):
            activations = {model: part.to(self.device, non_blocking=True) for model, part in stored.items()}
            moved = [None if i is None else i.pin_memory().to(self.device, non_blocking=True) for i in indices]
            return Loaded(picks, activations, moved, self._stream.record_event())

    def _batch(self, pick: Pick, loaded: Loaded, index: Tensor | None) -> Batch:
        """The rows of one step, widened on the device."""
        if (
            loaded.copied is not None
        ):  # the memory is the copying stream's: not to be used again before this is done
            for tensor in [*loaded.activations.values(), *([] if index is None else [index])]:
                tensor.record_stream(torch.cuda.current_stream(self.device))
        stored = loaded.activations
        if index is not None:
            stored = {model: tensor.index_select(0, index) for model, tensor in stored.items()}
        rows = {model: tensor.flatten(0, -2).float() for model, tensor in stored.items()}
        if pick.rows is None:
            return Batch(pick.step, pick.epoch, pick.images, rows, self.share)
        image, position = np.divmod(pick.rows, self.data.tokens)
        return Batch(pick.step, pick.epoch, pick.images[image], rows, self.share, position)
