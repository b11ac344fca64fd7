"""An SAE before its first step: what a measure gives where nothing has been learnt (stage `measure`)."""

from collections.abc import Mapping

import numpy as np
import torch

from usae.activations.store import ActivationStore
from usae.common.seeds import seed_of
from usae.sae.universal import UniversalSAE

CALIBRATION_IMAGES = 64  # whose statistics its normalisation takes


@torch.no_grad()
def fresh_sae(like: UniversalSAE, stores: Mapping[str, ActivationStore], seed: int) -> UniversalSAE:
    """An SAE of the size and the units of `like`, in eval mode and on its device, with random weights.

    stores: activations by model; the normalisation has seen some of their images, as in a first step.
    """
    torch.manual_seed(seed_of(seed, "weights before the first step"))
    fresh = UniversalSAE(like.widths, like.concepts, like.k)
    for model, store in stores.items():
        part, trained = fresh.part(model), like.part(model)
        part.mean.copy_(trained.mean)
        part.std.copy_(trained.std)
        part.encoder.norm.momentum = 1.0
        rows = store.take(range(min(CALIBRATION_IMAGES, store.images)))
        part.encoder.train()(part.standardise(torch.from_numpy(rows.reshape(-1, store.width).astype(np.float32))))
    return fresh.eval().to(next(like.parameters()).device)
