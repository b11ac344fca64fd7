"""A crosscoder with an L1 penalty (Lindsey et al. 2024), held to k codes of a token on average."""

from usae.methods.joint.family import Family
from usae.methods.joint.method import JointMethod, begin
from usae.methods.joint.sae import FreeCrosscoder
from usae.training.loop.method import Start

ESTIMATOR = FreeCrosscoder


def start(given: Start) -> JointMethod:
    """See `usae.training.loop.methods`."""
    return begin(given, Family(chosen_by="sum", values="sum", scope="positive", free=True))
