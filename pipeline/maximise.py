"""Stage `maximise`: for chosen concepts, the image that each model likes best (MACO), and what that proves.

dvc repro maximise
"""

from pathlib import Path

from pipeline import stage
from usae.common.params import Params
from usae.common.runtime.device import configure
from usae.common.tables import write_table
from usae.showing.maximisation.run import maximise
from usae.showing.maximisation.tables import MAXIMISATION
from usae.showing.maximisation.transfer import own_above, transfer_table, write_maximised


@stage
def main(params: Params) -> str:
    """Write `data/maximised/CONCEPT/MODEL.png`, the curves, and `reports/maximisation.parquet`."""
    with maximise(params, configure(params.runtime)) as gallery:
        table = transfer_table(gallery)
        write_maximised(Path("data/maximised"), gallery)
        write_table(MAXIMISATION, table, Path("reports/maximisation.parquet"))
    shown = sum(target.kind == "concept" for target in gallery.targets)
    if not shown:
        return "no concept to maximise: see `maximise.rule` and `maximise.concepts` in params.yaml"
    return (
        f"{shown} concepts; {own_above(table):.0%} of their pictures beat 99 % of real images in their own model, "
        f"{own_above(table, 'random'):.0%} of those of random directions"
    )


if __name__ == "__main__":
    main()
