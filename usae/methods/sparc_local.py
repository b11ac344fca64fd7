"""SPARC without its global choice: every model chooses its own concepts, as in the universal SAE."""

from usae.methods.joint.family import Family
from usae.methods.joint.method import JointMethod, begin
from usae.methods.joint.sae import SparcSAE
from usae.training.loop.method import Start

ESTIMATOR = SparcSAE


def start(given: Start) -> JointMethod:
    """See `usae.training.loop.methods`."""
    return begin(given, Family(cross=1.0))
