"""Where crosscoders start: at the universal SAE's concepts, read by the sum of its encoders."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from usae.methods.joint.sae import Crosscoder, FreeCrosscoder
from usae.sae.universal import UniversalSAE
from usae.training.loop.method import Start
from usae.training.start.tokens import SCALE_IMAGES


@torch.no_grad()
def centred(sae: FreeCrosscoder, first: UniversalSAE, given: Start) -> None:
    """Take over concepts at the norm they are decoded with, and encoders without their normalisation.

    Offsets, and what encoders subtract, are the means of the standardised training tokens.
    """
    for model, manifest in given.manifests.items():
        mine: Any = sae.part(model)
        theirs = first.part(model)
        mean = theirs.standardise(torch.tensor(manifest.channel_mean))
        for name in ("mean", "std", "gain"):
            getattr(mine, name).copy_(getattr(theirs, name))
        mine.encoder.centre.copy_(mean)
        mine.encoder.linear.weight.copy_(theirs.encoder.linear.weight)
        mine.encoder.linear.bias.zero_()
        mine.dictionary.weight.copy_(theirs.gain * theirs.dictionary.unit())
        mine.dictionary.offset.copy_(mean)


@torch.no_grad()
def sparse(sae: Crosscoder, given: Start) -> None:
    """Lower the encoders' biases until k pre-codes of a token are positive, mean over some training images."""
    sample = given.data.rows(np.arange(min(given.data.images, SCALE_IMAGES)))
    pre = sae.sum({model: sae.pre_codes(model, raw) for model, raw in sample.items()})
    least = pre.flatten().kthvalue(pre.numel() - sae.k * len(pre)).values
    for model in sae.models:
        encoder: Any = sae.part(model).encoder
        encoder.linear.bias.sub_(least / len(sae.models))


@torch.no_grad()
def scaled(sae: Crosscoder, given: Start) -> None:
    """Give the sum of the encoders the scale that reconstructs all models best on some training images."""
    sample = given.data.rows(np.arange(min(given.data.images, SCALE_IMAGES)))
    sae.train()
    codes = next(iter(sae.encode(sample).values()))
    product, square = 0.0, 0.0
    for model, raw in sample.items():
        offset = sae.offset(model)
        guess = sae.decode(model, codes) - offset
        product += float((guess * (sae.standardise(model, raw) - offset)).sum())
        square += float(guess.square().sum())
    for model in sae.models:
        for weight in _gains(sae, model):
            weight.mul_(product / square)


def _gains(sae: Crosscoder, model: str) -> list[Tensor]:
    """What an encoder's pre-codes are proportional to."""
    encoder: Any = sae.part(model).encoder
    norm = getattr(encoder, "norm", None)
    return [encoder.linear.weight, encoder.linear.bias] if norm is None else [norm.weight, norm.bias]
