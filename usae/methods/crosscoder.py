"""A crosscoder with BatchTopK (Lindsey et al. 2024, Minder et al. 2025): one code for all models, free norms."""

from usae.methods.joint.family import Family
from usae.methods.joint.method import JointMethod, begin
from usae.methods.joint.sae import FreeCrosscoder
from usae.training.loop.method import Start

ESTIMATOR = FreeCrosscoder


def start(given: Start) -> JointMethod:
    """See `usae.training.loop.methods`."""
    return begin(given, Family(chosen_by="sum", values="sum", scope="batch", free=True))
