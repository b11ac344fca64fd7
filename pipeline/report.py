"""Stage `report`: the figures in `reports/figures/` and the concept explorer, `reports/index.html`.

dvc repro report
"""

from pathlib import Path

from pipeline import stage
from usae.codes import open_codes
from usae.explorer import Run, write_report
from usae.images import ImageIndex
from usae.params import Params
from usae.reports import Reports


@stage
def main(params: Params) -> str:
    """Draw what the other stages measured."""
    run = Run(
        params=params,
        reports=Reports.load(Path("reports")),
        index=ImageIndex.load(Path("data/images/val.parquet"), Path(params.images.path or ".")),
        codes=open_codes(Path("data/codes/val"), params.models),
        maximised=Path("data/maximised"),
    )
    page = write_report(run, Path("reports"))
    return f"open {page} ({page.stat().st_size / 1e6:.1f} MB, works offline)"


if __name__ == "__main__":
    main()
