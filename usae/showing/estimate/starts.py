"""What an SAE takes before its first step: clusters of tokens, whose number does not grow as steps do."""

import numpy as np

from usae.activations.sampling import open_paired
from usae.activations.store import store_root
from usae.activations.store.manifests import load_manifests
from usae.common.layout import Layout
from usae.common.params import Params
from usae.common.runtime.device import configure
from usae.common.variant import Variant
from usae.showing.estimate.clocks import Cost, clocks
from usae.training.loop.loop import RunOptions, prepare
from usae.training.start.clusters import PER_CONCEPT, SAMPLE

START = "start"


def start_cost(params: Params) -> Cost:
    """Of clusters for the universal SAE in the working folder, beyond a start at single tokens."""
    manifests = load_manifests(Layout().manifests, params.models)
    data = open_paired(manifests, store_root(params.runtime.store))
    options, took = RunOptions(configure(params.runtime), "never"), []
    for init in ("paired", "clusters"):
        recipe = params.train.model_copy(update={"init": init})
        variants = {START: Variant(params.k, params.seed)}
        before = clocks()
        prepare(variants, manifests, data, recipe, options, seed=params.seed, steps=1)
        took.append(clocks() - before)
    return Cost(*np.maximum(0.0, took[1] - took[0]))


def start_tokens(params: Params, images: int) -> int:
    """Tokens that are clustered, of so many images."""
    most = min(SAMPLE, PER_CONCEPT * params.train.dictionary)
    return min(most, images * params.extract.grid**2)
