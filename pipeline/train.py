"""Stage `train`: the universal SAE over all models, to `data/usae/` and `reports/training.parquet`."""

from pathlib import Path

from pipeline import stage
from usae.activations.store.manifests import load_manifests
from usae.common.params import Params
from usae.common.runtime.ranks import Ranks, launch
from usae.common.tables import write_table
from usae.common.variant import Variant
from usae.training.loop.log import write_curve
from usae.training.stage import MANIFESTS, training_run
from usae.training.tables import TRAINING

CURVE = Path("reports/plots/training.csv")


@stage
def main(params: Params) -> str:
    """Train, save the SAE, its log and a thinned learning curve for `dvc plots`."""
    launch(params.runtime.processes, "pipeline.train")
    variants = {"usae": Variant(params.k, params.seed, params.train.pairs)}
    manifests = load_manifests(MANIFESTS, params.models)
    with training_run(params, "usae", manifests, variants, CURVE) as trained:
        log = trained["usae"].log
        if Ranks.current().rank == 0:
            trained["usae"].sae.save_pretrained(Path("data/usae"))
            write_table(TRAINING, log, Path("reports/training.parquet"))
            write_curve(log, CURVE)
    return f"{len(log)} steps, loss {log['loss'].iloc[-20:].mean():.3f}"


if __name__ == "__main__":
    main()
