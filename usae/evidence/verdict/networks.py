"""Are the networks trained, and are they different ones? Asked of their manifests."""

from itertools import combinations

from usae.activations.store.manifests import Manifest
from usae.evidence.verdict.answers import Answer, Evidence, answered, slugs_text, worse
from usae.evidence.verdict.levels import UNREADABLE

RANDOM = "random"


def different(evidence: Evidence) -> Answer:
    """Copies of one network agree on everything, whatever was trained on them."""
    manifests = evidence.manifests
    pairs = [(one, other) for one, other in combinations(manifests, 2) if _same(manifests[one], manifests[other])]
    copies = "; ".join(map(slugs_text, pairs))
    reason = f"{copies} are copies, the same layer of one network: that they agree says nothing"
    return answered(
        "different networks",
        worse(bool(pairs), UNREADABLE),
        (len(pairs), 0),
        reason if pairs else "No two models are copies of one network",
        f"Leave {slugs_text(sorted({other for _, other in pairs}))} out of `models`",
    )


def trained(evidence: Evidence) -> Answer:
    """Networks with random weights share what pixels and architectures give."""
    origins = {model: manifest.backbone.get("weights") for model, manifest in evidence.manifests.items()}
    random = [model for model, origin in origins.items() if origin == RANDOM]
    have = "has" if len(random) == 1 else "have"
    reason = f"{slugs_text(random)} {have} random weights: what such networks share, nobody has learnt"
    return answered(
        "trained networks",
        worse(bool(random), UNREADABLE),
        (len(random), 0),
        reason if random else "No network has random weights",
        "Set `weights` in the networks' entries of `zoo` to hub or to the path of a checkpoint",
    )


def _same(one: Manifest, other: Manifest) -> bool:
    """Whether they read the same layer of the same weights, by digest or by what comes out of it."""
    digest = one.backbone.get("sha256")
    alike = digest is not None and (digest, one.layer) == (other.backbone.get("sha256"), other.layer)
    return alike or one.channel_mean == other.channel_mean
