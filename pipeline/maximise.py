"""Stage `maximise`: for chosen concepts, the image that each model scores highest (MACO), and what that proves.

dvc repro maximise
"""

from pipeline import stage
from usae.common.layout import Layout
from usae.common.params import LEFT, Params
from usae.common.runtime.device import configure
from usae.common.tables import write_table
from usae.showing.maximisation.run import maximise
from usae.showing.maximisation.tables import MAXIMISATION
from usae.showing.maximisation.transfer import summary, transfer_table, write_maximised


@stage
def main(params: Params) -> str:
    """Write `data/maximised/CONCEPT/MODEL.png`, the curves, and `reports/maximisation.parquet`."""
    layout = Layout()
    with maximise(params, layout, configure(params.runtime)) as maximisation:
        table = transfer_table(maximisation)
        write_maximised(layout.maximised, maximisation)
        write_table(MAXIMISATION, table, layout.table(MAXIMISATION))
    return LEFT if params.quick else summary(table)


if __name__ == "__main__":
    main()
