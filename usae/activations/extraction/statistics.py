"""Statistics of an activation store: channel moments, and the paper's one mean and one standard deviation.

Stage `extract` merges them from what each chunk left behind, so no second pass over the activations is made.
Two orders: `after` resampling to the common grid (of what the store holds), or `before` it (of the native tokens,
those of the layer's own grid). The paper's authors do the latter: they standardise, then interpolate, which leaves
a variance below 1.
"""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from usae.activations.store import ActivationStore, Moments
from usae.common.params import Order


def image_moments(maps: Float[Tensor, "images d h w"]) -> Float64[Tensor, "images 2 d"]:
    """Mean and sum of squared deviations over the tokens, for each channel of each image."""
    return torch.stack([_moments_of_map(image) for image in maps])  # (images, 2, d)


def channel_moments(store: ActivationStore, order: Order = "after") -> Moments:
    """Channel moments over the whole store, from the chunks' own; reads no activation."""
    chunks = range(store.chunks)
    if order == "before":
        return Moments.merged((store.native_moments(chunk).channels() for chunk in chunks), store.width)
    return Moments.merged(map(store.moments, chunks), store.width)


def sample_moments(store: ActivationStore, count: int | None, order: Order = "after") -> tuple[Moments, int]:
    """Moments of the first `count` images (None: all), and how many these are.

    Their `scalar` is the paper's standardisation. The first images are a fair sample, since the index is in random
    order. Of native tokens, all channels count as one.
    """
    wanted = store.images if count is None else min(count, store.images)
    total = Moments.none(1 if order == "before" else store.width)
    for chunk in range(-(-wanted // store.chunk_images)):
        span = store.span(chunk)
        images = min(span.stop, wanted) - span.start
        if order == "before":
            total = total.merge(store.native_moments(chunk).scalar(images))
        elif images == len(span):
            total = total.merge(store.moments(chunk))
        else:
            total = total.merge(Moments.of(store.chunk(chunk)[:images].reshape(-1, store.width)))
    return total, wanted


def _moments_of_map(image: Float[Tensor, "d h w"]) -> Float64[Tensor, "2 d"]:
    tokens = image.flatten(1).double()  # (d, tokens)
    mean = tokens.mean(1)  # (d)
    return torch.stack([mean, (tokens - mean[:, None]).square().sum(1)])  # (2, d)
