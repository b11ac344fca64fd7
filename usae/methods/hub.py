"""The concepts of one model, the hub, read from and written to every other model by regression.

Nothing is trained but the hub's own SAE. The encoder of another model is the hub's after the best linear map to
the hub's activations, its decoder the regression of its activations on the hub's codes: what a newcomer to a
universal SAE gets (stage `onboarding`), for an SAE of one model.
"""

import numpy as np

from usae.common.numerics.ridge import VALIDATION, LinearMap, Products, ridge_map
from usae.common.numerics.wide_ridge import solved_maps
from usae.evidence.onboarding.newcomer import add_codes
from usae.methods.fitting.affine import AffineSAE
from usae.methods.fitting.material import Material
from usae.methods.fitting.own import own_codes, through
from usae.methods.fitting.reading import Reading


def fit(material: Material) -> list[Reading]:
    """A reading for each hub, form hub-SLUG."""
    return [Reading(f"hub-{hub}", _concepts(material, hub)) for hub in material.models]


def _concepts(material: Material, hub: str) -> AffineSAE:
    spans, decoders = material.spans, _decoders(material, hub)
    to_hub = {model: ridge_map(*material.products, spans[model], spans[hub]) for model in decoders}
    return through(material, hub, to_hub, decoders)


def _decoders(material: Material, hub: str) -> dict[str, LinearMap]:
    """Other models' activations from the hub's codes."""
    fit, validation = code_products(material, hub)
    c = material.alone[hub].concepts
    targets = {m: slice(c + span.start, c + span.stop) for m, span in material.spans.items() if m != hub}
    return solved_maps(fit, validation, slice(0, c), targets)


def code_products(material: Material, hub: str) -> tuple[Products, Products]:
    """Sums over training tokens of the hub's codes beside all models' activations: to fit on, to validate."""
    origin = np.concatenate([np.zeros(material.alone[hub].concepts), material.products[0].origin])
    sums = Products.none(origin), Products.none(origin)
    for number, block in enumerate(material.blocks()):
        codes = own_codes(material, hub, block[hub])
        add_codes(sums[number % VALIDATION == 0], codes, np.concatenate(list(block.values()), axis=1))
    return sums
