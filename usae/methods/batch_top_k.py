"""The universal SAE with BatchTopK (Bussmann et al. 2024): the largest codes of a batch, not of each token."""

from usae.methods.joint.family import Family
from usae.methods.joint.method import JointMethod, begin
from usae.methods.joint.sae import SparcSAE
from usae.training.loop.method import Start

ESTIMATOR = SparcSAE


def start(given: Start) -> JointMethod:
    """See `usae.training.loop.methods`."""
    return begin(given, Family(scope="batch"))
