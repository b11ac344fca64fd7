"""Stage `compare`: other methods of finding shared concepts beside the universal SAE, by the same questions."""

from pipeline import stage
from usae.activations.store import store_root
from usae.common.layout import Layout
from usae.common.params import LEFT, Params
from usae.common.runtime.device import configure
from usae.common.tables import write_table
from usae.methods.comparison.compare import compare
from usae.methods.comparison.curves import write_points
from usae.methods.comparison.tables import METHODS


@stage
def main(params: Params) -> str:
    """Write `methods`, `method_concepts`, `method_funnel` and `method_sharing`; and plots/methods.csv."""
    layout = Layout()
    tables = compare(params, layout, store_root(params.runtime.store), configure(params.runtime))
    for table, frame in tables.items():
        write_table(table, frame, layout.table(table))
    write_points(tables[METHODS], layout.method_points)
    if params.quick:
        return LEFT
    return f"{tables[METHODS]['method'].nunique()} methods"


if __name__ == "__main__":
    main()
