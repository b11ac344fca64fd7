"""The SAE of one model by itself, in the units of the universal SAE: its codes divided by the model's gain.

Its statistics are those of the universal SAE, its rows have norm 1. So here, too, a code of 1 adds a vector of the
norm of the universal SAE's concepts.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from scipy import sparse

from usae.common.numerics.ridge import LinearMap
from usae.common.types import Array
from usae.evidence.onboarding.newcomer import affine, matrix
from usae.methods.fitting.affine import AffineSAE
from usae.methods.fitting.material import Material
from usae.sae.universal import UniversalSAE


def gain(material: Material, model: str) -> float:
    """Norm of what a code of 1 adds to the model."""
    return float(material.units.part(model).gain)


def own_encoder(material: Material, model: str) -> LinearMap:
    """Standardised tokens (d,) to pre-codes (c,)."""
    encoder, scale = affine(material.alone[model].part(model).encoder), gain(material, model)
    return LinearMap(encoder.weights / scale, encoder.offset / scale)


def own_decoder(material: Material, model: str) -> LinearMap:
    """Codes (c,) to standardised tokens (d,)."""
    rows = unit_rows(material.alone[model], model) * gain(material, model)
    return LinearMap(rows, np.zeros(rows.shape[1]))


def through(
    material: Material, hub: str, to_hub: Mapping[str, LinearMap], decoders: Mapping[str, LinearMap]
) -> AffineSAE:
    """The concepts of the hub's SAE: read from the others by maps of their activations to the hub's, `to_hub`, and
    written by their `decoders`; from and to the hub by its own.
    """
    own = own_encoder(material, hub)
    encoders = {hub: own, **{model: translation.then(own) for model, translation in to_hub.items()}}
    everyone = {hub: own_decoder(material, hub), **decoders}
    readers, writers = ({model: maps[model] for model in material.models} for maps in (encoders, everyone))
    return AffineSAE.of(material.units, readers, writers, material.alone[hub].levels, material.device)


@torch.inference_mode()
def unit_rows(sae: UniversalSAE, model: str) -> Array:
    """(c, d) concepts at unit norm."""
    return np.asarray(sae.dictionary(model).double().cpu().numpy())


@torch.inference_mode()
def own_codes(material: Material, model: str, rows: Array) -> sparse.csr_array:
    """(n, c) codes of standardised tokens (n, d)."""
    sae = material.alone[model]
    pre = sae.part(model).encoder(torch.from_numpy(rows).to(sae.device))
    return sparse.csr_array(matrix(sae.levels.top_k(pre), sae.concepts) / gain(material, model))


def code_blocks(material: Material) -> Iterator[dict[str, sparse.csr_array]]:
    """Training codes (n, c) of every model's own SAE, some images at a time; row r is the same token in all."""
    for block in material.blocks():
        yield {model: own_codes(material, model, rows) for model, rows in block.items()}
