"""Statistics of an activation store: channel moments, and the paper's one mean and one standard deviation.

Stage `extract` merges them from what each chunk left behind, so no second pass over the activations is made.
Two orders: `after` resampling to the common grid (of what the store holds), or `before` it (of the layer's own
tokens, as the paper's authors do: they standardise, then interpolate, which leaves a variance below 1).
"""

import io
import os
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from usae.errors import UserError
from usae.store import ActivationStore, Moments

BEFORE = "before"  # folder in the store, only where the layer's own grid is not the common one


@dataclass(frozen=True)
class OwnMoments:
    """Moments of a chunk's tokens before resampling, float64: by channel, and by image over its channels too.

    tokens: of an image. mean, m2 (sum of squared deviations): [d]. image_mean, image_m2: [images].
    """

    tokens: int
    mean: np.ndarray
    m2: np.ndarray
    image_mean: np.ndarray
    image_m2: np.ndarray

    @classmethod
    def of(cls, tokens: int, moments: Float64[np.ndarray, "images 2 d"]) -> "OwnMoments":
        """From each image's channel means and sums of squared deviations (`image_moments`)."""
        means, m2 = moments[:, 0], moments[:, 1]  # (images, d) each
        mean, image_mean = means.mean(0), means.mean(1)  # (d), (images)
        spread = np.square(means - image_mean[:, None]).sum(1)  # (images)
        return cls(
            tokens,
            mean=mean,
            m2=m2.sum(0) + tokens * np.square(means - mean).sum(0),
            image_mean=image_mean,
            image_m2=m2.sum(1) + tokens * spread,
        )

    @classmethod
    def load(cls, store: ActivationStore, chunk: int) -> "OwnMoments":
        """As written when the chunk was computed.

        Raises:
            UserError: the file is missing or damaged.
        """
        path = own_path(store, chunk)
        try:
            with np.load(path) as file:
                return cls(int(file["tokens"]), *(file[key] for key in ("mean", "m2", "image_mean", "image_m2")))
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise UserError(
                f"The moments of chunk {chunk} before resampling should be in {path}, but: {error}. "
                "Remove that file if it is there, and extract again: only its chunk is computed."
            ) from error

    def save(self, store: ActivationStore, chunk: int) -> None:
        """Write beside the chunk: whole or not at all, also after a power cut."""
        buffer, path = io.BytesIO(), own_path(store, chunk)
        np.savez(buffer, **vars(self))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        with partial.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    def channels(self) -> Moments:
        """Of every channel."""
        return Moments(self.tokens * len(self.image_mean), self.mean, self.m2)

    def scalar(self, images: int) -> Moments:
        """Of all values of the first `images` images, as if they were one channel."""
        mean, m2 = self.image_mean[:images].mean(), self.image_m2[:images].sum()
        values = self.tokens * len(self.mean)
        m2 += values * np.square(self.image_mean[:images] - mean).sum()
        return Moments(values * len(self.image_mean[:images]), np.array([mean]), np.array([m2]))


def image_moments(maps: Float[Tensor, "images d h w"]) -> Float64[Tensor, "images 2 d"]:
    """Mean and sum of squared deviations over the tokens, for each channel of each image."""
    return torch.stack([_moments_of_map(image) for image in maps])  # (images, 2, d)


def own_path(store: ActivationStore, chunk: int) -> Path:
    """Where the moments of a chunk's own tokens lie."""
    return store.path / BEFORE / f"{chunk}.npz"


def channel_moments(store: ActivationStore, *, before: bool = False) -> Moments:
    """Channel moments over the whole store, from the chunks' own; reads no activation."""
    total = Moments.none(store.width)
    for chunk in range(store.chunks):
        total = total.merge(OwnMoments.load(store, chunk).channels() if before else store.moments(chunk))
    return total


def scalar_statistics(
    store: ActivationStore, count: int | None, *, before: bool = False
) -> tuple[float, float, int]:
    """The paper's standardisation: one mean, one std over all tokens and channels of `count` images (None: all).

    The first images are a fair sample, since the index is in random order. Returns (mean, unbiased std, images).
    """
    wanted = store.images if count is None else min(count, store.images)
    total = Moments.none(1 if before else store.width)
    for chunk in range(-(-wanted // store.chunk_images)):
        span = store.span(chunk)
        images = min(span.stop, wanted) - span.start
        if before:
            total = total.merge(OwnMoments.load(store, chunk).scalar(images))
        elif images == len(span):
            total = total.merge(store.moments(chunk))
        else:
            total = total.merge(Moments.of(store.chunk(chunk)[:images].reshape(-1, store.width)))
    return *total.scalar(), wanted


def _moments_of_map(image: Float[Tensor, "d h w"]) -> Float64[Tensor, "2 d"]:
    tokens = image.flatten(1).double()  # (d, tokens)
    mean = tokens.mean(1)  # (d)
    return torch.stack([mean, (tokens - mean[:, None]).square().sum(1)])  # (2, d)
