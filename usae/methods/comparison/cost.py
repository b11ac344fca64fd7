"""What training a method takes, in numbers that do not depend on the machine."""

from collections.abc import Mapping

from usae.methods.joint.sae import Crosscoder, SparcSAE
from usae.sae.universal import UniversalSAE

PASSES = 3  # of every product: forward, and backward to each of its two factors


def cost(sae: UniversalSAE, images: int, tokens: int, batch_tokens: int | None = None) -> Mapping[str, float]:
    """Rows of table `methods`: parameters, steps, encoder_updates, gflop.

    images, tokens: in the training set, and of each image. By its own recipe a universal SAE encodes one model's
    part of the tokens, or those of all. batch_tokens: of one update, where a method has a number of its own; else
    those of a whole batch of images.
    """
    other, models = "method" in sae.config, len(sae.models)
    recipe = sae.config["train"]
    everyone = other or recipe["sources"] == "all"
    steps = recipe["epochs"] * sum(
        -(-rows // (batch_tokens or rows)) for rows in _batches(images, tokens, recipe["batch_images"])
    )
    seen = images * tokens * recipe["epochs"]
    encoded = sum(sae.widths.values()) * sae.concepts / (1 if everyone else models)
    sources = models if everyone and not isinstance(sae, Crosscoder) else 1
    decoded = sources * _kept(sae) * sum(sae.widths.values())
    return {
        "parameters": sum(parameter.numel() for parameter in sae.parameters()),
        "steps": steps,
        "encoder_updates": steps // (models if recipe["sources"] == "one" and not everyone else 1),
        "gflop": PASSES * 2 * seen * (encoded + decoded) / 1e9,
    }


def _batches(images: int, tokens: int, most: int) -> list[int]:
    """Tokens of each batch of one epoch; the last one may have fewer images."""
    return [min(most, images - first) * tokens for first in range(0, images, most)]


def _kept(sae: UniversalSAE) -> int:
    """Codes that a token is decoded from: the auxiliary loss of `aux: multi_topk` decodes k and half of all again.

    The family of SPARC and crosscoders has no such loss; what `aux: dead` decodes depends on what dies.
    """
    auxiliary = sae.config["train"]["aux"] == "multi_topk" and not isinstance(sae, SparcSAE | Crosscoder)
    return sae.k + (sae.k + sae.concepts // 2 if auxiliary else 0)
