"""The points that concepts are mixtures of under `dictionary_rows: archetypes`: the same ones in every model."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from usae.activations.sampling import PairedActivations
from usae.common.seeds import generator
from usae.common.variant import Variant
from usae.sae.universal import UniversalSAE
from usae.training.start.tokens import starting_images


@torch.no_grad()
def archetypes(
    sae: UniversalSAE,
    data: PairedActivations,
    starts: Mapping[str, Float[Tensor, "c _"]],
    variant: Variant,
) -> dict[str, Float[Tensor, "p _"]]:
    """Of each model p = 2c points: where its concepts start, and as many tokens that are drawn, of the same images
    and positions in all models. With shuffled pairs their images are other ones, as those of the starts.

    starts: standardised. The unit of a model's points is the mean norm of its drawn tokens.
    """
    drawn = generator(variant.seed, "archetypes").choice(data.images * data.tokens, sae.concepts, replace=False)
    images, positions = np.divmod(drawn, data.tokens)
    points = {}
    for model, own_images in zip(
        sae.models, starting_images(images, data.images, sae.models, variant), strict=True
    ):
        tokens = sae.standardise(model, data.tokens_at(model, own_images, positions).to(sae.device))
        start = starts[model].to(sae.device)
        start = torch.where(start.any(1, keepdim=True), start, 1.0)  # any direction, as in `point`
        points[model] = torch.cat([start, tokens]) / tokens.norm(dim=1).mean()
    return points
