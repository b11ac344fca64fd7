"""Stage `planted` from its parameters."""

from functools import partial

import pandas as pd

from usae.common.params import Params
from usae.common.runtime.device import configure
from usae.common.runtime.parallel import side_by_side
from usae.common.runtime.progress import progress
from usae.common.tables import no_rows
from usae.evidence.planted.summary import summary
from usae.evidence.planted.tables import PLANTED, PLANTED_CONCEPTS
from usae.evidence.planted.trial import CPU, Trial


def run(params: Params) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables `planted` and `planted_concepts`; without rows in a quick run."""
    if params.quick:
        return no_rows(PLANTED), no_rows(PLANTED_CONCEPTS)
    configure(params.runtime)
    concepts, codes = judged(params)
    return summary(concepts, codes), concepts


def judged(params: Params) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Planted concepts and codes (see `Trial.scored`) of the worlds of `params.seed` and the seeds after it."""
    seeds = range(params.seed, params.seed + params.planted.seeds)
    worlds = side_by_side(partial(_world, params), seeds, CPU)
    results = zip(*progress(worlds, total=len(seeds), description="planted", unit="world"), strict=True)
    concepts, codes = (pd.concat(frames, ignore_index=True) for frames in results)
    return concepts, codes


def _world(params: Params, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    return Trial.draw(params, seed).run()
