"""The controls: SAEs of the same recipe and budget that show what the universal SAE's numbers are worth.

Stage `controls` trains them side by side, stage `contrast` takes the same measures of each. A control differs from
the universal SAE in one thing: the seed (are the concepts found again?), the pairing of the images, the weights of
the networks, or k.

To add a control: one line in `variants`, and its name in `names.py`. Both stages go through `variants`, and the
tables have the name in column `run`.
"""

from usae.activations.store.manifests import UNTRAINED
from usae.common.params import Params
from usae.common.variant import Variant
from usae.evidence.controls.names import ALL_UNTRAINED, ONE_UNTRAINED, SEED, SHUFFLED, K


def variants(params: Params) -> dict[str, Variant]:
    """Every control by name, in the order of training. Networks with random weights are `UNTRAINED` plus the slug.

    A model alone has no control ONE_UNTRAINED.
    """
    k, seed, pairs, models = params.k, params.seed, params.train.pairs, params.models
    untrained = tuple(f"{UNTRAINED}{model}" for model in models)
    controls = {f"{SEED}{n}": Variant(k, seed + n, pairs, models) for n in range(1, params.controls.seeds + 1)}
    controls[SHUFFLED] = Variant(k, seed, "shuffled", models)
    controls[ALL_UNTRAINED] = Variant(k, seed, pairs, untrained)
    if len(models) > 1:
        controls[ONE_UNTRAINED] = Variant(k, seed, pairs, (*untrained[:1], *models[1:]))
    return controls | {f"{K}{size}": Variant(size, seed, pairs, models) for size in params.controls.k or ()}
