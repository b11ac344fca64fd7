"""Stage `contrast`: the universal SAE's measures on its controls too, and whether its concepts come again."""

from pipeline import stage
from usae.activations.store import store_root
from usae.common.layout import Layout
from usae.common.params import Params
from usae.common.runtime.device import configure
from usae.common.tables import write_table
from usae.evidence.metrics.contrast.contrast import contrasts
from usae.evidence.metrics.contrast.tables import CONTROLS


@stage
def main(params: Params) -> str:
    """Write `reports/controls.parquet`, `reports/control_concepts.parquet` and `reports/stability.parquet`."""
    device, layout = configure(params.runtime), Layout()
    tables = contrasts(params, layout, store_root(params.runtime.store), device)
    for table, frame in tables.items():
        write_table(table, frame, layout.table(table))
    cross = tables[CONTROLS].query("measure == 'r2_cross_mean'").set_index("run")["value"]
    return f"cross R2 {', '.join(f'{run} {value:.2f}' for run, value in cross.items())}"


if __name__ == "__main__":
    main()
