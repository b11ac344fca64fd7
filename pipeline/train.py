"""Stage `train`: the universal SAE over all models, to `data/usae/` and `reports/training.parquet`.

As it was before its first step: to `data/usae/start/`.
"""

from pipeline import stage
from usae.activations.store.manifests import load_manifests
from usae.common.layout import Layout
from usae.common.params import Params
from usae.common.runtime.ranks import Ranks, launch
from usae.common.tables import write_table
from usae.common.variant import Variant
from usae.training.loop.log import write_curve
from usae.training.stage import save, training_run
from usae.training.tables import TRAINING


@stage
def main(params: Params) -> str:
    """Train, save the SAE, its log and a thinned learning curve for `dvc plots`."""
    launch(params.runtime.processes, "pipeline.train")
    layout = Layout()
    variants = {"usae": Variant(params.k, params.seed, params.train.pairs)}
    manifests = load_manifests(layout.manifests, params.models)
    with training_run(params, "usae", manifests, variants, layout.curve) as trained:
        log = trained["usae"].log
        if Ranks.current().rank == 0:
            save(trained["usae"], layout.usae)
            write_table(TRAINING, log, layout.table(TRAINING))
            write_curve(log, layout.curve)
    return f"{len(log)} steps, loss {log['loss'].iloc[-20:].mean():.3f}"


if __name__ == "__main__":
    main()
