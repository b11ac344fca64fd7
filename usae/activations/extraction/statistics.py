"""Statistics of an activation store: channel moments, and the paper's one mean and one standard deviation.

Stage `extract` merges them from what each chunk left behind, so no second pass over the activations is made.
Two orders: `after` resampling to the common grid (of what the store holds), or `before` it (of the layer's own
tokens, as the paper's authors do: they standardise, then interpolate, which leaves a variance below 1).
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from usae.activations.store import ActivationStore, Moments, write_sealed
from usae.common.params import Order


@dataclass(frozen=True)
class OwnMoments:
    """Moments of a chunk's tokens before resampling, float64: by channel, and by image over its channels too.

    mean, m2 (sum of squared deviations): [d]. image_mean, image_m2: [images]. tokens: of an image.
    """

    mean: np.ndarray
    m2: np.ndarray
    image_mean: np.ndarray
    image_m2: np.ndarray
    tokens: int

    @classmethod
    def of(cls, moments: Float64[np.ndarray, "images 2 d"], tokens: int) -> "OwnMoments":
        """From each image's channel means and sums of squared deviations over its tokens (`image_moments`)."""
        means, m2 = moments[:, 0], moments[:, 1]  # (images, d) each
        mean, image_mean = means.mean(0), means.mean(1)  # (d), (images)
        spread = np.square(means - image_mean[:, None]).sum(1)  # (images)
        return cls(
            mean=mean,
            m2=m2.sum(0) + tokens * np.square(means - mean).sum(0),
            image_mean=image_mean,
            image_m2=m2.sum(1) + tokens * spread,
            tokens=tokens,
        )

    @classmethod
    def load(cls, store: ActivationStore, chunk: int) -> "OwnMoments":
        """As written when the chunk was computed.

        Raises:
            UserError: the file is missing, cut short, or does not match its checksum.
        """
        channels, images = store.width, len(store.span(chunk))
        ends = np.cumsum([channels, channels, images])
        mean, m2, image_mean, image_m2 = np.split(store.numbers(chunk, "before"), ends)
        return cls(mean, m2, image_mean, image_m2, store.own_tokens)

    def save(self, store: ActivationStore, chunk: int) -> None:
        """Write beside the chunk, before it: whole or not at all, also after a power cut."""
        values = np.concatenate([self.mean, self.m2, self.image_mean, self.image_m2]).astype("<f8")
        write_sealed(store.own_moments_path(chunk), values)

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


def channel_moments(store: ActivationStore, order: Order = "after") -> Moments:
    """Channel moments over the whole store, from the chunks' own; reads no activation."""
    chunks = range(store.chunks)
    if order == "before":
        return Moments.merged((OwnMoments.load(store, chunk).channels() for chunk in chunks), store.width)
    return Moments.merged(map(store.moments, chunks), store.width)


def sample_moments(store: ActivationStore, count: int | None, order: Order = "after") -> tuple[Moments, int]:
    """Moments of the first `count` images (None: all), and how many these are.

    Their `scalar` is the paper's standardisation. The first images are a fair sample, since the index is in random
    order. Of layers' own tokens, all channels count as one.
    """
    wanted = store.images if count is None else min(count, store.images)
    total = Moments.none(1 if order == "before" else store.width)
    for chunk in range(-(-wanted // store.chunk_images)):
        span = store.span(chunk)
        images = min(span.stop, wanted) - span.start
        if order == "before":
            total = total.merge(OwnMoments.load(store, chunk).scalar(images))
        elif images == len(span):
            total = total.merge(store.moments(chunk))
        else:
            total = total.merge(Moments.of(store.chunk(chunk)[:images].reshape(-1, store.width)))
    return total, wanted


def _moments_of_map(image: Float[Tensor, "d h w"]) -> Float64[Tensor, "2 d"]:
    tokens = image.flatten(1).double()  # (d, tokens)
    mean = tokens.mean(1)  # (d)
    return torch.stack([mean, (tokens - mean[:, None]).square().sum(1)])  # (2, d)
