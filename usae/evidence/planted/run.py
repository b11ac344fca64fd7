"""Stage `planted` from its parameters."""

import pandas as pd

from usae.common.params import Params
from usae.common.runtime.device import configure
from usae.evidence.planted.trial import Trial


def run(params: Params) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables `planted` and `planted_concepts`, in the world of `params.seed`."""
    configure(params.runtime)
    measure = params.measure
    asked = {"threshold": measure.threshold, "agreement": measure.agreement}
    return Trial.draw(params.planted, params.train, **asked, seed=params.seed).run()
