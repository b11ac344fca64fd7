"""Stage `interventions` from its parameters."""

import pandas as pd

from usae.activations.store import store_root
from usae.common.layout import Layout
from usae.common.params import Params
from usae.common.runtime.device import configure
from usae.common.tables import no_rows
from usae.evidence.interventions.study import Study, intervene
from usae.evidence.interventions.tables import ABLATION, STITCHING


def run(params: Params) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables `stitching` and `ablation`; without rows where the images have no labels to read out, and in a quick
    run.
    """
    if params.quick:
        return no_rows(STITCHING), no_rows(ABLATION)
    device = configure(params.runtime)
    study = Study.load(params.models, store_root(params.runtime.store), device, Layout())
    return intervene(study, params.interventions.readout_images, params.measure.threshold)
