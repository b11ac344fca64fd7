"""The universal SAE whose concepts are the same mixtures of the same tokens in all models (`dictionary_rows`)."""

from dataclasses import replace

from usae.sae.universal import UniversalSAE
from usae.training.loop import universal
from usae.training.loop.method import Start

ESTIMATOR = UniversalSAE


def start(given: Start) -> universal.UniversalMethod:
    """See `usae.training.loop.methods`."""
    params = given.params.model_copy(update={"dictionary_rows": "archetypes"})
    return universal.start(replace(given, params=params))
