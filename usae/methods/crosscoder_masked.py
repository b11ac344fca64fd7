"""A crosscoder that reads a random part of the models in every row (after Kaushik et al. 2026)."""

from usae.methods.joint.family import Family
from usae.methods.joint.method import JointMethod, begin
from usae.methods.joint.sae import FreeCrosscoder
from usae.training.loop.method import Start

ESTIMATOR = FreeCrosscoder


def start(given: Start) -> JointMethod:
    """See `usae.training.loop.methods`."""
    return begin(given, Family(chosen_by="sum", values="sum", scope="batch", free=True, kept=0.5))
