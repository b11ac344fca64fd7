"""Stage `measure`: every metric of the sparse codes, as documented tables in `reports/`.

dvc repro measure
"""

from pathlib import Path

from pipeline import stage
from usae.activations.store import store_root
from usae.common.params import Params
from usae.common.runtime.device import configure
from usae.evidence.metrics.measure.evaluation import evaluate

REPORTS = Path("reports")


@stage
def main(params: Params) -> str:
    """Measure `data/codes` and write `reports/`."""
    device = configure(params.runtime)
    root, dask = store_root(params.runtime.store), params.runtime.dask
    evaluation = evaluate(
        params.models, params.measure, root, device, seed=params.seed, reports=REPORTS, dask=dask
    )
    evaluation.write(REPORTS)
    return evaluation.headline


if __name__ == "__main__":
    main()
