"""Stage `planted`: known concepts, and whether `train`'s recipe and the metrics tell shared from private ones."""

from pathlib import Path

from pipeline import stage
from usae.params import Params
from usae.planting import Trial
from usae.runtime import configure
from usae.tables import write_table


@stage
def main(params: Params) -> str:
    """Write `reports/planted.parquet` and `reports/planted_concepts.parquet`."""
    configure(params.runtime)
    trial = Trial.draw(params.planted, params.train, threshold=params.measure.threshold, seed=params.seed)
    numbers, concepts = trial.run()
    write_table("planted", numbers, Path("reports/planted.parquet"))
    write_table("planted_concepts", concepts, Path("reports/planted_concepts.parquet"))
    found = numbers[(numbers["setting"] == "matched") & (numbers["quantity"] == "auroc")]
    lowest = found.groupby("by")["value"].min()
    return f"AUROC of shared concepts: lift {lowest['lift']:.3f}, entropy {lowest['firing_entropy']:.3f} or more"


if __name__ == "__main__":
    main()
