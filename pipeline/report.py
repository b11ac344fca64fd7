"""Stage `report`: the figures in `reports/figures/` and the concept explorer, `reports/index.html`.

dvc repro report
"""

from pathlib import Path

from pipeline import stage
from usae.common.params import Params
from usae.showing.explorer import write_report
from usae.showing.maximisation.pictures import CURVES
from usae.showing.results.readme import readme
from usae.showing.results.run import Run

REPORTS, MAXIMISED = Path("reports"), Path("data/maximised")


@stage
def main(params: Params) -> str:
    """Draw what the other stages measured, and say in `reports/README.md` what their tables hold."""
    page = write_report(Run.load(".", params), REPORTS)
    (REPORTS / "README.md").write_text(readme([*sorted(REPORTS.glob("*.parquet")), MAXIMISED / CURVES]))
    return f"open {page} ({page.stat().st_size / 1e6:.1f} MB, works offline)"


if __name__ == "__main__":
    main()
