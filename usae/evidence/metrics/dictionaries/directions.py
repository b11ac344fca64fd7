"""Directions of concepts as they are compared between SAEs: without what all tokens have in common.

Every concept's row leans towards the mean token; uncentred, any two dictionaries of one model look alike.
"""

from collections.abc import Mapping

import numpy as np
import torch

from usae.common.numerics.matching import unit
from usae.common.types import Array
from usae.evidence.estimators import decoder_rows
from usae.sae.estimator import Concepts


@torch.inference_mode()
def centred_directions(sae: Concepts, model: str, mean: Array) -> Array:
    """(c, d) unit rows of the model's decoder, the mean token's direction taken out; `mean` (d,) raw."""
    rows = np.asarray(decoder_rows(sae, model).double().cpu())
    token = torch.from_numpy(mean).float().to(sae.device)
    centre = unit(np.asarray(sae.standardise(model, token).double().cpu())[None])  # (1, width)
    return unit(rows - (rows @ centre.T) * centre)


def side_by_side(sae: Concepts, means: Mapping[str, Array]) -> Array:
    """(c, sum of d) the centred directions of all models, each counting alike; `means`: raw, by model."""
    directions = [centred_directions(sae, model, means[model]) for model in sae.models]
    return np.asarray(np.concatenate(directions, axis=1) / len(directions) ** 0.5)
