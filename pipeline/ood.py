"""Stage `ood`: the universal SAE on images of another kind, beside held-out ones.

dvc repro ood
"""

from pipeline import stage
from usae.common.layout import Layout
from usae.common.params import LEFT, Params
from usae.common.tables import write_table
from usae.evidence.ood.run import run
from usae.evidence.ood.tables import OOD


@stage
def main(params: Params) -> str:
    """Write `reports/ood.parquet`."""
    table = run(params)
    write_table(OOD, table, Layout().table(OOD))
    if params.quick:
        return LEFT
    if table.empty:
        return "no images of another kind: see `ood.images` in params.yaml"
    cross = table[table["source"] != table["target"]].groupby("images", sort=False)["r2_channel"].mean()
    return f"{params.ood.images}: cross R2 " + ", ".join(
        f"{value:.2f} {images}" for images, value in cross.items()
    )


if __name__ == "__main__":
    main()
