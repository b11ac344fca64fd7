"""Stage `planted`: known concepts, and whether `train`'s recipe and the metrics tell shared from private ones."""

from pathlib import Path

from pipeline import stage
from usae.common.params import Params
from usae.common.runtime.device import configure
from usae.common.tables import write_table
from usae.evidence.planted.tables import PLANTED, PLANTED_CONCEPTS
from usae.evidence.planted.trial import Trial


@stage
def main(params: Params) -> str:
    """Write `reports/planted.parquet` and `reports/planted_concepts.parquet`."""
    configure(params.runtime)
    trial = Trial.draw(params.planted, params.train, threshold=params.measure.threshold, seed=params.seed)
    numbers, concepts = trial.run()
    write_table(PLANTED, numbers, Path("reports/planted.parquet"))
    write_table(PLANTED_CONCEPTS, concepts, Path("reports/planted_concepts.parquet"))
    found = numbers[(numbers["setting"] == "matched") & (numbers["quantity"] == "auroc")]
    lowest = found.groupby("by")["value"].min()
    return f"AUROC of shared concepts: lift {lowest['lift']:.3f}, entropy {lowest['firing_entropy']:.3f} or more"


if __name__ == "__main__":
    main()
