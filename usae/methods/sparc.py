"""SPARC (Nasiri-Sarvi et al. 2025): all models choose a token's concepts, each keeps its own values."""

from usae.methods.joint.family import Family
from usae.methods.joint.method import JointMethod, begin
from usae.methods.joint.sae import SparcSAE
from usae.training.loop.method import Start

ESTIMATOR = SparcSAE


def start(given: Start) -> JointMethod:
    """See `usae.training.loop.methods`."""
    return begin(given, Family(chosen_by="sum", cross=1.0))
