"""Stage `measure`: every metric of the sparse codes, as documented tables in `reports/`, and the verdict on all.

dvc repro measure
"""

from pipeline import stage
from usae.activations.store import store_root
from usae.activations.store.manifests import load_manifests
from usae.common.layout import Layout
from usae.common.params import Params
from usae.common.runtime.device import configure
from usae.evidence.estimators import level_ends
from usae.evidence.metrics.measure.evaluation import evaluate
from usae.evidence.metrics.measure.funnel_tables import Funnel
from usae.evidence.metrics.measure.opened import Opened


@stage
def main(params: Params) -> str:
    """Measure `data/codes` and write `reports/`."""
    device, layout = configure(params.runtime), Layout()
    opened = Opened.load(params.models, layout, store_root(params.runtime.store), device)
    agreement, ends = params.measure.agreement, level_ends(opened.sae)
    funnel = Funnel.load(layout.reports, len(params.models), agreement, ends)
    evaluation = evaluate(opened, params.measure, params.seed, funnel, params.runtime.dask, params.quick)
    evaluation = evaluation.judged(load_manifests(layout.manifests, params.models), layout.reports)
    evaluation.write(layout.reports)
    return evaluation.headline


if __name__ == "__main__":
    main()
