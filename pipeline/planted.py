"""Stage `planted`: known concepts, and whether `train`'s recipe and the metrics tell shared from private ones."""

from pipeline import stage
from usae.common.layout import Layout
from usae.common.params import Params
from usae.common.tables import write_table
from usae.evidence.planted.run import run
from usae.evidence.planted.tables import PLANTED, PLANTED_CONCEPTS


@stage
def main(params: Params) -> str:
    """Write `reports/planted.parquet` and `reports/planted_concepts.parquet`."""
    quantities, concepts = run(params)
    write_table(PLANTED, quantities, Layout().table(PLANTED))
    write_table(PLANTED_CONCEPTS, concepts, Layout().table(PLANTED_CONCEPTS))
    separated = quantities[(quantities["setting"] == "matched") & (quantities["quantity"] == "auroc")]
    lowest = separated.groupby("by")["value"].min()
    return f"AUROC of shared concepts: lift {lowest['lift']:.3f}, entropy {lowest['firing_entropy']:.3f} or more"


if __name__ == "__main__":
    main()
