"""Stage `contrast`: the universal SAE's measures on its controls and starts too, and what of it comes again."""

from pipeline import stage
from usae.activations.store import store_root
from usae.common.layout import Layout
from usae.common.params import Params
from usae.common.runtime.device import configure
from usae.common.tables import write_table
from usae.evidence.controls.names import RUN, SHUFFLED, UNTRAINED
from usae.evidence.metrics.contrast.contrast import Contrasts, contrast_tables
from usae.evidence.metrics.contrast.tables import CONTROLS


@stage
def main(params: Params) -> str:
    """Write `controls`, `control_concepts`, `stability`, `sensitivity`, `repeated` and `start_exemplars`."""
    device, layout = configure(params.runtime), Layout()
    contrasts = Contrasts.load(params, layout, store_root(params.runtime.store), device)
    tables = contrast_tables(contrasts, params.runtime.dask)
    for table, frame in tables.items():
        write_table(table, frame, layout.table(table))
    across = tables[CONTROLS].query("measure == 'r2_cross_mean'").set_index("run")["value"]
    shown = ", ".join(f"{name} {across[name]:.3f}" for name in (RUN, SHUFFLED, UNTRAINED) if name in across)
    return f"SAEs: {len(across)}; R2 of other models' codes: {shown}"


if __name__ == "__main__":
    main()
