"""Stage `maximise`: for chosen concepts, the image that each model scores highest (MACO), and what that proves.

dvc repro maximise
"""

from pipeline import stage
from usae.common.layout import Layout
from usae.common.params import LEFT, Params
from usae.common.runtime.device import configure
from usae.common.tables import write_table
from usae.showing.maximisation.on_page import PAGE_PICTURES, page_pictures
from usae.showing.maximisation.run import maximise
from usae.showing.maximisation.tables import MAXIMISATION
from usae.showing.maximisation.transfer import summary, transfer_table, write_maximised
from usae.showing.scripts import write_beside


@stage
def main(params: Params) -> str:
    """Write `data/maximised/CONCEPT/MODEL.png`, the curves, `reports/maximisation.parquet` and `maximised.js`."""
    layout = Layout()
    maximisation = maximise(params, layout, configure(params.runtime))
    table = transfer_table(maximisation)
    write_maximised(layout.maximised, maximisation)
    write_table(MAXIMISATION, table, layout.table(MAXIMISATION))
    pictures = page_pictures(table, layout.maximised, params.models, params.maximise.also)
    write_beside(layout.reports / PAGE_PICTURES, pictures)
    return LEFT if params.quick else summary(table)


if __name__ == "__main__":
    main()
