"""What training a method takes, in numbers that do not depend on the machine."""

from collections.abc import Mapping

from usae.methods.joint.sae import Crosscoder
from usae.sae.universal import UniversalSAE

PASSES = 3  # of every product: forward, and backward to each of its two factors


def cost(sae: UniversalSAE, images: int, tokens: int) -> Mapping[str, float]:
    """Rows of table `methods`: parameters, steps, encoder_updates, gflop.

    images, tokens: in the training set, and of each image. By its own recipe a universal SAE encodes one model's
    part of the tokens, or those of all.
    """
    other, models = "method" in sae.config, len(sae.models)
    recipe = sae.config["train"]
    everyone = other or recipe["sources"] == "all"
    steps = -(-images // recipe["batch_images"]) * recipe["epochs"]
    seen = images * tokens * recipe["epochs"]
    encoded = sum(sae.widths.values()) * sae.concepts / (1 if everyone else models)
    codes = models if everyone and not isinstance(sae, Crosscoder) else 1
    decoded = codes * sae.k * sum(sae.widths.values())
    return {
        "parameters": sum(parameter.numel() for parameter in sae.parameters()),
        "steps": steps,
        "encoder_updates": steps // (models if recipe["sources"] == "one" and not everyone else 1),
        "gflop": PASSES * 2 * seen * (encoded + decoded) / 1e9,
    }
