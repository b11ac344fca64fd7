"""Stage `contrast`: the universal SAE's measures on its controls and starts too, and what of it comes again."""

from pipeline import stage
from usae.activations.store import store_root
from usae.common.layout import Layout
from usae.common.params import Params
from usae.common.runtime.device import configure
from usae.common.tables import write_table
from usae.evidence.controls.names import RUN
from usae.evidence.metrics.contrast.contrast import Contrasts, contrast_tables
from usae.evidence.metrics.contrast.tables import CONTROLS


@stage
def main(params: Params) -> str:
    """Write `controls`, `control_concepts`, `stability`, `sensitivity`, `repeated` and `start_exemplars`."""
    device, layout = configure(params.runtime), Layout()
    tables = contrast_tables(Contrasts.load(params, layout, store_root(params.runtime.store), device))
    for table, frame in tables.items():
        write_table(table, frame, layout.table(table))
    run = tables[CONTROLS].query("run == @RUN", local_dict={"RUN": RUN}).set_index("measure")
    shown = ("shared", "universal") if "universal" in run.index else ("shared",)
    return ", ".join(f"{name} {run.value[name]:.0f} (start {run.start[name]:.0f})" for name in shown)


if __name__ == "__main__":
    main()
