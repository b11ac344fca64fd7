"""The runs of a method that is trained, and what each learns from (stage `methods`)."""

from usae.activations.store.manifests import UNTRAINED as RANDOM
from usae.common.params import Params
from usae.common.variant import Variant
from usae.training.portion import Portion, control_portion

RUN, START, SHUFFLED = "run", "start", "shuffled"  # of all methods
UNTRAINED, SEED, TWIN = "untrained", "seed-", "twin"  # of those that are trained


def method_variants(params: Params, method: str, images: int) -> dict[str, Variant]:
    """The run, the same from other starts, and where asked for its nulls, by name in the order of training.

    images: training images that there are. Where other starts and nulls learn from less than the run, its twin
    learns as they do.
    """
    return {name: each for runs in method_runs(params, method, images).values() for name, each in runs.items()}


def method_runs(params: Params, method: str, images: int) -> dict[Portion, dict[str, Variant]]:
    """The same by what they learn from."""
    run = Variant(params.k, params.seed, params.train.pairs, params.models, method=method)
    whole, controls = Portion(None, params.methods.epochs or params.train.epochs), _controls(params, method)
    portion = control_portion(params, whole)
    if portion.is_that(whole, images) or not controls:
        return {whole: {RUN: run, **controls}}
    return {whole: {RUN: run}, portion: {TWIN: run, **controls}}


def _controls(params: Params, method: str) -> dict[str, Variant]:
    k, seed, pairs, models = params.k, params.seed, params.train.pairs, params.models
    found = {}
    for number in range(1, params.methods.seeds + 1):
        found[f"{SEED}{number}"] = Variant(k, seed + number, pairs, models, method=method)
    if params.methods.nulls:
        networks = tuple(f"{RANDOM}{model}" for model in models)
        found[SHUFFLED] = Variant(k, seed, "shuffled", models, method=method)
        found[UNTRAINED] = Variant(k, seed, pairs, networks, method=method)
    return found
