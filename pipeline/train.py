"""Stage `train`: the universal SAE over all models, to `data/usae/` and `reports/training.parquet`."""

from pathlib import Path

from pipeline import stage
from usae.manifests import load_manifests
from usae.params import Params
from usae.runtime import configure
from usae.sampling import open_paired
from usae.store import store_root
from usae.tables import write_table
from usae.training import train, write_curve


@stage
def main(params: Params) -> str:
    """Train, save the SAE, its log and a thinned learning curve for `dvc plots`."""
    device = configure(params.runtime)
    manifests = load_manifests(Path("data/manifests"), params.models)
    data = open_paired(manifests, store_root(params.runtime.store))
    sae, log = train(
        manifests,
        data,
        params.train,
        k=params.k,
        seed=params.seed,
        device=device,
        resident=params.runtime.resident,
    )
    sae.save_pretrained(Path("data/usae"))
    write_table("training", log, Path("reports/training.parquet"))
    write_curve(log, Path("reports/plots/training.csv"))
    return f"{len(log)} steps, loss {log['loss'].iloc[-20:].mean():.3f}"


if __name__ == "__main__":
    main()
