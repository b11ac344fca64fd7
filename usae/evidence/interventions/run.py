"""Stage `interventions` from its parameters."""

import pandas as pd

from usae.activations.store import store_root
from usae.common.layout import Layout
from usae.common.params import Params
from usae.common.runtime.device import configure
from usae.evidence.interventions.study import Study, intervene


def run(params: Params) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables `stitching` and `ablation`; without rows where the images have no labels to read out."""
    device = configure(params.runtime)
    study = Study.load(params.models, store_root(params.runtime.store), device, Layout())
    return intervene(study, params.interventions.readout_images, params.measure.threshold)
