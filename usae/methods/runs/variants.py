"""The runs of a method that is trained (stage `methods`)."""

from usae.activations.store.manifests import UNTRAINED as RANDOM
from usae.common.params import Params
from usae.common.variant import Variant

RUN, START, SHUFFLED = "run", "start", "shuffled"  # of all methods
UNTRAINED, SEED = "untrained", "seed-"  # of those that are trained


def method_variants(params: Params, method: str) -> dict[str, Variant]:
    """The run, the same from other starts, and where asked for its nulls, by name in the order of training."""
    k, seed, pairs, models = params.k, params.seed, params.train.pairs, params.models
    found = {RUN: Variant(k, seed, pairs, models, method=method)}
    for number in range(1, params.methods.seeds + 1):
        found[f"{SEED}{number}"] = Variant(k, seed + number, pairs, models, method=method)
    if params.methods.nulls:
        networks = tuple(f"{RANDOM}{model}" for model in models)
        found[SHUFFLED] = Variant(k, seed, "shuffled", models, method=method)
        found[UNTRAINED] = Variant(k, seed, pairs, networks, method=method)
    return found


def method_params(params: Params) -> Params:
    """With the budget of the methods in place of the run's."""
    epochs = params.methods.epochs or params.train.epochs
    return params.model_copy(update={"train": params.train.model_copy(update={"epochs": epochs})})
