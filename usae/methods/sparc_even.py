"""SPARC whose cross terms count as the universal SAE's do: each as much as a self term."""

from usae.methods.joint.family import Family
from usae.methods.joint.method import JointMethod, begin
from usae.methods.joint.sae import SparcSAE
from usae.training.loop.method import Start

ESTIMATOR = SparcSAE


def start(given: Start) -> JointMethod:
    """See `usae.training.loop.methods`."""
    return begin(given, Family(chosen_by="sum"))
