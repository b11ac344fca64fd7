"""Stage `report`: the figures in `reports/figures/` and the concept explorer, `reports/index.html`.

dvc repro report
"""

from pathlib import Path

from pipeline import stage
from usae.explorer import write_report
from usae.finished import Run
from usae.params import Params


@stage
def main(params: Params) -> str:
    """Draw what the other stages measured."""
    page = write_report(Run.load(".", params), Path("reports"))
    return f"open {page} ({page.stat().st_size / 1e6:.1f} MB, works offline)"


if __name__ == "__main__":
    main()
