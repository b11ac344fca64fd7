"""The universal SAE as Matryoshka (Bussmann et al. 2025): nested prefixes, one choice among all concepts."""

from usae.methods.joint.family import Family
from usae.methods.joint.method import JointMethod, begin
from usae.methods.joint.sae import SparcSAE
from usae.training.loop.method import Start

ESTIMATOR = SparcSAE


def start(given: Start) -> JointMethod:
    """See `usae.training.loop.methods`."""
    return begin(given, Family(prefixes=(0.125, 0.25, 0.5, 1.0)))
