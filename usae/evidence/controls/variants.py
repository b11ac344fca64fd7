"""SAEs beside the universal one that show what its numbers are worth: of the same recipe and budget.

Stage `controls` trains them side by side. The same from other starts (are the concepts found again?), on re-paired
images, and on networks with random weights: all of them, or one among the others.
"""

from usae.activations.store.manifests import UNTRAINED
from usae.common.params import Params
from usae.common.variant import Variant
from usae.evidence.controls.names import ALL_UNTRAINED, ONE_UNTRAINED, SEED, SHUFFLED, K


def variants(params: Params) -> dict[str, Variant]:
    """Every control by name; a network with random weights has the slug's name after `UNTRAINED`."""
    models, pairs = params.models, params.train.pairs
    untrained = tuple(f"{UNTRAINED}{model}" for model in models)
    seeds = range(1, params.controls.seeds + 1)
    found = {f"{SEED}{n}": Variant(params.k, params.seed + n, pairs, models) for n in seeds}
    found[SHUFFLED] = Variant(params.k, params.seed, "shuffled", models)
    found[ALL_UNTRAINED] = Variant(params.k, params.seed, pairs, untrained)
    if len(models) > 1:
        found[ONE_UNTRAINED] = Variant(params.k, params.seed, pairs, (*untrained[:1], *models[1:]))
    return found | {f"{K}{k}": Variant(k, params.seed, pairs, models) for k in params.controls.k or ()}
