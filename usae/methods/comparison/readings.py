"""How a code that was made of all models is read from one of them alone.

`masked`: the other models count as their mean tokens. `calibrated`: one factor and one shift for each latent, by
least squares on training tokens, since the sum lacks the others' parts. `refitted`: ridge regression of the whole
pre-code on the model's activations, an encoder of its own. The last makes concepts fire together whatever they
mean, for all encoders aim at one target: it is to be read beside the same of a start and of re-paired images.
"""

from collections.abc import Mapping

import numpy as np
import torch

from usae.common.numerics.ridge import LinearMap, ridge_map
from usae.common.types import Array
from usae.evidence.estimators import decoder_rows
from usae.methods.fitting.affine import AffineSAE
from usae.methods.fitting.material import Material
from usae.methods.fitting.reading import Reading
from usae.methods.joint.sae import Crosscoder
from usae.sae.universal import UniversalSAE

MASKED, CALIBRATED, REFITTED = "masked", "calibrated", "refitted"


def readings(sae: UniversalSAE, material: Material) -> list[Reading]:
    """All ways of reading an SAE of the family from one model alone; one, where its codes are each model's own.

    Of networks that are not those of `material` there is nothing to calibrate or fit on.
    """
    if not isinstance(sae, Crosscoder):
        return [Reading(concepts=sae)]
    if sae.models != material.models:
        return [Reading(MASKED, sae)]
    return [
        Reading(MASKED, sae),
        Reading(CALIBRATED, _read_by(sae, material, calibrated(sae, material))),
        refitted(sae, material),
    ]


@torch.inference_mode()
def refitted(sae: UniversalSAE, material: Material) -> Reading:
    """Every model's encoder by ridge onto the sum of all models' pre-codes (their mean, where codes are own)."""
    parts, spans = encoders(sae), material.spans
    share = 1 if isinstance(sae, Crosscoder) else 1 / len(parts)
    found = {}
    for source in sae.models:
        whole = [ridge_map(*material.products, spans[source], spans[model]).then(parts[model]) for model in parts]
        found[source] = LinearMap(
            share * np.sum([each.weights for each in whole], axis=0),
            share * np.sum([each.offset for each in whole], axis=0),
        )
    return Reading(REFITTED, _read_by(sae, material, found))


@torch.inference_mode()
def calibrated(sae: UniversalSAE, material: Material) -> dict[str, LinearMap]:
    """Every model's own part p of the pre-codes q of all, as a p + c with a = cov(p, q) / var(p)."""
    parts, spans, fit = encoders(sae), material.spans, material.products[0].merged(material.products[1])
    covariance, mean = fit.about(fit.mean), fit.origin + fit.mean
    whole = np.concatenate([parts[model].weights for model in spans])  # (wide, c)
    level = sum((parts[model](mean[span]) for model, span in spans.items()), np.zeros(sae.concepts))  # of q
    found = {}
    for model, span in spans.items():
        own = parts[model]
        spread = np.einsum("dc,de,ec->c", own.weights, covariance[span, span], own.weights, optimize=True)
        along = np.einsum("dc,de,ec->c", own.weights, covariance[span], whole, optimize=True)
        factor = np.divide(along, spread, out=np.zeros(len(spread)), where=spread > 0)
        found[model] = LinearMap(own.weights * factor, level + factor * (own.offset - own(mean[span])))
    return found


def encoders(sae: UniversalSAE) -> dict[str, LinearMap]:
    """Each model's part of the pre-codes, in the unit of its codes: standardised tokens (d,) to (c,)."""
    scale = sae.scale().detach().double().cpu().numpy() if isinstance(sae, Crosscoder) else np.ones(sae.concepts)
    found = {}
    for model in sae.models:
        weight, bias = (each.detach().cpu().numpy() for each in sae.part(model).encoder.affine(torch.float64))
        found[model] = LinearMap(weight.T * scale, bias * scale)
    return found


def _read_by(sae: UniversalSAE, material: Material, found: Mapping[str, LinearMap]) -> AffineSAE:
    decoders = {model: LinearMap(_rows(sae, model), _offset(sae, model)) for model in sae.models}
    return AffineSAE.of(material.units, found, decoders, sae.levels, material.device)


def _rows(sae: UniversalSAE, model: str) -> Array:
    return decoder_rows(sae, model).detach().double().cpu().numpy()


def _offset(sae: UniversalSAE, model: str) -> Array:
    if isinstance(sae, Crosscoder):
        return np.asarray(sae.offset(model).detach().double().cpu().numpy())
    return np.zeros(sae.widths[model])
