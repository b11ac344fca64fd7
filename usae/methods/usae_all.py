"""The universal SAE with every model encoded in every step: as much training as methods that read all at once."""

from dataclasses import replace

from usae.sae.universal import UniversalSAE
from usae.training.loop import universal
from usae.training.loop.method import Start

ESTIMATOR = UniversalSAE


def start(given: Start) -> universal.UniversalMethod:
    """See `usae.training.loop.methods`."""
    return universal.start(replace(given, params=given.params.model_copy(update={"sources": "all"})))
