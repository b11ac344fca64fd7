"""The controls: SAEs of the same recipe that show what the universal SAE's numbers are worth.

Stage `controls` trains them side by side, stage `contrast` takes the same measures of each. A control differs from
the universal SAE in one thing: the seed, the half of the images that it sees (are the concepts found again?), the
pairing of the images, the weights of the networks, or k. Of all models, or, one model after another, of one alone:
what two models share must not pass for what all do.

All of them may be given fewer images and epochs than the run. Its twin then gets as few, and is what they are
compared with.

To add a control: one line in `controls`, and its name in `names.py`. Both stages go through it, and the tables
have the name in column `run`.
"""

from usae.activations.store.manifests import UNTRAINED as RANDOM
from usae.common.params import Params
from usae.common.seeds import seed_of
from usae.common.variant import Variant
from usae.evidence.controls.names import (
    BRIEF,
    HALF,
    INDEPENDENT,
    ONE_SHUFFLED,
    ONE_UNTRAINED,
    SEED,
    SHUFFLED,
    TWIN,
    UNTRAINED,
    K,
)
from usae.training.portion import control_portion, run_portion


def controls(params: Params, images: int) -> dict[str, Variant]:
    """Every control by name, in the order of training. Networks with random weights are `untrained-` and the slug.

    images: training images that there are. Where the controls learn from all of them, for as long as the run,
    there is no twin. Of two models, one that is re-paired alone is what `shuffled` is, so there is none; a
    model alone has no other to be untrained beside. A quick run has none.
    """
    if params.quick:
        return {}
    k, seed, pairs, models = params.k, params.seed, params.train.pairs, params.models
    networks = {model: f"{RANDOM}{model}" for model in models}
    run = run_portion(params)
    alike = control_portion(params, run).is_that(run, images)
    found = {} if alike else {TWIN: Variant(k, seed, pairs, models)}
    found |= {f"{SEED}{n}": Variant(k, seed + n, pairs, models) for n in range(1, params.controls.seeds + 1)}
    for half in range(2):
        found[f"{HALF}{half + 1}"] = Variant(k, seed_of(seed, "half", half), pairs, models, half=half)
    found[SHUFFLED] = Variant(k, seed, "shuffled", models)
    found[UNTRAINED] = Variant(k, seed, pairs, tuple(networks.values()))
    for model in models if len(models) > 2 else ():
        found[f"{ONE_SHUFFLED}{model}"] = Variant(k, seed, "shuffled", models, stranger=model)
    for model in models if len(models) > 1 else ():
        strangers = tuple(networks[each] if each == model else each for each in models)
        found[f"{ONE_UNTRAINED}{model}"] = Variant(k, seed, pairs, strangers)
    return found | {f"{K}{size}": Variant(size, seed, pairs, models) for size in params.controls.k or ()}


def independent(params: Params) -> dict[str, Variant]:
    """An SAE of each model alone, by name: INDEPENDENT, its dictionary updated as often as in the universal SAE,
    and BRIEF, its encoder as often (`sources: each`: on as many tokens). Where a step updates the source alone, or
    encodes all models, the two are one.

    Their concepts start elsewhere than the universal SAE's: started alike, they would agree for that reason.
    A quick run has none.
    """
    if params.quick:
        return {}
    seeds = {model: seed_of(params.seed, "independent SAE", model) for model in params.models}
    by_turns = 1 if params.train.sources == "all" else len(params.models)
    alone = params.train.update == "source" and params.train.sources == "one"
    dictionary = by_turns if alone else 1
    shares = dict.fromkeys((INDEPENDENT,), dictionary) | ({} if dictionary == by_turns else {BRIEF: by_turns})
    return {
        f"{name}{model}": Variant(params.k, seed, models=(model,), share_of_steps=share)
        for name, share in shares.items()
        for model, seed in seeds.items()
    }
