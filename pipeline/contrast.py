"""Stage `contrast`: the universal SAE's measures on its controls too, and whether its concepts come again."""

from pathlib import Path

from pipeline import stage
from usae.activations.store import store_root
from usae.activations.store.manifests import load_manifests
from usae.common.params import Params
from usae.common.runtime.device import configure
from usae.common.tables import write_table
from usae.evidence.controls.names import RUN
from usae.evidence.controls.variants import variants
from usae.evidence.metrics.contrast.contrast import contrasts
from usae.evidence.metrics.contrast.tables import CONTROLS


@stage
def main(params: Params) -> str:
    """Write `reports/controls.parquet`, `reports/control_concepts.parquet` and `reports/stability.parquet`."""
    device, root = configure(params.runtime), store_root(params.runtime.store)
    folders = {RUN: Path("data/usae"), **{name: Path("data/controls") / name for name in variants(params)}}
    manifests = load_manifests(Path("data/manifests"), params.models)
    manifests |= load_manifests(Path("data/untrained"), params.models)
    stores = {model: manifest.open("val", root) for model, manifest in manifests.items()}
    tables = contrasts(folders, stores, params.measure, params.seed, device)
    for table, frame in tables.items():
        write_table(table, frame, Path("reports") / f"{table.name}.parquet")
    cross = tables[CONTROLS].query("measure == 'r2_cross_mean'").set_index("run")["value"]
    return f"cross R2 {', '.join(f'{run} {value:.2f}' for run, value in cross.items())}"


if __name__ == "__main__":
    main()
