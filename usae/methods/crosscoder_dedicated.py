"""A crosscoder with concepts of each model alone (Jiralerspong and Bricken 2026): 5 % for each."""

from usae.methods.joint.family import Family
from usae.methods.joint.method import JointMethod, begin
from usae.methods.joint.sae import FreeCrosscoder
from usae.training.loop.method import Start

ESTIMATOR = FreeCrosscoder


def start(given: Start) -> JointMethod:
    """See `usae.training.loop.methods`."""
    return begin(given, Family(chosen_by="sum", values="sum", scope="batch", free=True, dedicated=0.05))
