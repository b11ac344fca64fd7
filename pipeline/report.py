"""Stage `report`: figures in `reports/figures/`, the concept explorer, `reports/index.html`, and the comparison of
methods, `reports/methods.html`.

dvc repro report
"""

import pyarrow.parquet as pq

from pipeline import stage
from usae.common.files.whole import write_output
from usae.common.layout import Layout
from usae.common.params import Params
from usae.evidence.verdict.levels import verdict_line
from usae.showing.comparison import write_comparison
from usae.showing.explorer import write_report
from usae.showing.maximisation.pictures import CURVES
from usae.showing.maximisation.tables import MAXIMISATION, MAXIMISATION_CURVES
from usae.showing.results.inputs import check_inputs
from usae.showing.results.readme import readme
from usae.showing.results.run import Run


@stage
def main(params: Params) -> str:
    """Draw what the other stages measured, and say in `reports/README.md` what their tables hold."""
    layout = Layout()
    check_inputs("report", layout.root)
    run = Run.load(layout.root, params)
    page = write_report(run, layout.reports)
    write_comparison(run, layout.reports)
    schemas = {path: pq.read_schema(path) for path in layout.reports.glob("*.parquet")}
    to_come = {layout.table(MAXIMISATION): MAXIMISATION, layout.maximised / CURVES: MAXIMISATION_CURVES}
    schemas |= {path: table.schema for path, table in to_come.items()}
    write_output(layout.reports / "README.md", readme(schemas).encode())
    verdict = verdict_line(run.reports["verdict"])
    return f"open {page} ({page.stat().st_size / 1e6:.1f} MB, works offline). {verdict}"


if __name__ == "__main__":
    main()
