"""Stage `measure`: every metric of the sparse codes, as documented tables in `reports/`.

dvc repro measure
"""

from pathlib import Path

from pipeline import stage
from usae.metrics.evaluation import evaluate
from usae.params import Params
from usae.runtime import configure
from usae.store import store_root

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
