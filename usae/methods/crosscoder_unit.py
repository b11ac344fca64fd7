"""A crosscoder with the universal SAE's encoders, unit concepts and choice: one code, the sum over models."""

from usae.methods.joint.family import Family
from usae.methods.joint.method import JointMethod, begin
from usae.methods.joint.sae import Crosscoder
from usae.training.loop.method import Start

ESTIMATOR = Crosscoder


def start(given: Start) -> JointMethod:
    """See `usae.training.loop.methods`."""
    return begin(given, Family(chosen_by="sum", values="sum"))
