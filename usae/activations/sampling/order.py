"""Which rows make up the batch of a step: pure functions of the plan, the sizes of the set and the step.

Images are shuffled over the whole set, or, where the set is read from a disk that seeks slowly, within windows of
chunk files that come in random order. Tokens stay with their image, or are shuffled within windows of batches.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from usae.common.errors import UserError
from usae.common.seeds import generator

TOKEN_WINDOW = 16  # batches whose tokens are shuffled among each other


@dataclass(frozen=True)
class Plan:
    """batch_images: images a step, or as many tokens. window_images: shuffle within so many; None: in all."""

    batch_images: int
    seed: int
    window_images: int | None = None
    shuffle_tokens: bool = False


@dataclass(frozen=True)
class Pick:
    """The batch of a step: all tokens of `images`, or of them the `rows` (image by image, tokens in order).

    window: number of the images that are read together, within the epoch; several batches share them with `rows`.
    """

    step: int
    epoch: int
    window: int
    images: np.ndarray
    rows: np.ndarray | None = None

    def share(self, number: int, of: int) -> "Pick":
        """Every `of`-th image (or row) from `number` on."""
        if self.rows is not None:
            return replace(self, rows=self.rows[number::of])
        return replace(self, images=self.images[number::of])


@dataclass(frozen=True)
class Sampler:
    """A plan for a set of `images` with `tokens` each, in files of (at most) `chunk_images`."""

    plan: Plan
    images: int
    tokens: int
    chunk_images: int

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every token is seen once; the last one may be smaller."""
        return -(-self.images // self.plan.batch_images)

    @property
    def chunks(self) -> int:
        """Chunk files of the model that has fewest."""
        return -(-self.images // self.chunk_images)

    def pick(self, step: int) -> Pick:
        """The batch of a step."""
        epoch, number = divmod(step, self.steps_per_epoch)
        images = order(self.plan.seed, epoch, self.images, self.plan.window_images, self.chunk_images)
        together = TOKEN_WINDOW if self.plan.shuffle_tokens else 1
        window, within = divmod(number, together)
        size = together * self.plan.batch_images
        read = images[window * size : (window + 1) * size]
        if not self.plan.shuffle_tokens:
            return Pick(step, epoch, window, read)
        rows, shuffled = self.plan.batch_images * self.tokens, len(read) * self.tokens
        shuffle = token_order(self.plan.seed, epoch, window, shuffled)
        return Pick(step, epoch, window, read, shuffle[within * rows : (within + 1) * rows])

    def chunks_due(self, step: int) -> range:
        """Numbers of the chunks that are to be read before `step`, 0, 1, ... in `chunk_order`, over all epochs.

        From the start of the step's window to one window beyond its end, so that reading goes on evenly.
        """
        if self.plan.window_images is None:
            return range(0)
        epoch, number = divmod(step, self.steps_per_epoch)
        width = window_chunks(self.plan.window_images, self.chunk_images)
        first = number * self.plan.batch_images // self.chunk_images
        # The short last chunk lies anywhere in the order: an image may be in the chunk after the one counted here.
        last = ((number + 1) * self.plan.batch_images - 1) // self.chunk_images + 1
        before = epoch * self.chunks
        return range(before + first // width * width, before + last + width)

    def chunk_at(self, number: int) -> int:
        """The chunk of that number."""
        epoch, place = divmod(number, self.chunks)
        return int(chunk_order(self.plan.seed, epoch, self.chunks)[place])


@lru_cache(maxsize=2)
def order(
    seed: int, epoch: int, images: int, window_images: int | None = None, chunk_images: int = 1
) -> np.ndarray:
    """The images of an epoch, in the order in which they are trained on."""
    if window_images is None:
        return _final(_draws(seed, epoch).permutation(images))
    rng = _draws(seed, epoch)
    chunks = rng.permutation(-(-images // chunk_images))
    width = window_chunks(window_images, chunk_images)
    members = chunks[:, None] * chunk_images + np.arange(chunk_images)  # (chunks, chunk_images)
    windows = [members[start : start + width].ravel() for start in range(0, len(chunks), width)]
    return _final(np.concatenate([rng.permutation(window[window < images]) for window in windows]))


@lru_cache(maxsize=2)
def chunk_order(seed: int, epoch: int, chunks: int) -> np.ndarray:
    """The order in which a window-shuffled epoch comes to the chunks: the first thing `order` draws."""
    return _final(_draws(seed, epoch).permutation(chunks))


@lru_cache(maxsize=2)
def token_order(seed: int, epoch: int, window: int, rows: int) -> np.ndarray:
    """The rows of a window of batches, in the order in which they are trained on."""
    return _final(generator(seed, "order of tokens", epoch, window).permutation(rows))


def window_chunks(window_images: int, chunk_images: int) -> int:
    """Whole chunks in a window, at least one."""
    return max(1, window_images // chunk_images)


def check_batch(batch_images: int, images: int) -> None:
    """A batch must not be larger than the training set.

    Raises:
        UserError: it is.
    """
    if batch_images > images:
        raise UserError(
            f"`train.batch_images` is {batch_images}, but there are only {images} training images; "
            f"set it to {images} or less, or take more images."
        )


def _final(values: np.ndarray) -> np.ndarray:
    """Not to be written to: it is remembered."""
    values.flags.writeable = False
    return values


def _draws(seed: int, epoch: int) -> np.random.Generator:
    return generator(seed, "order of images", epoch)
