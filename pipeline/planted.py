"""Stage `planted`: known concepts, and whether `train`'s recipe and the metrics tell shared from private ones."""

from pipeline import stage
from usae.common.layout import Layout
from usae.common.params import LEFT, Params
from usae.common.tables import write_table
from usae.evidence.planted.run import run
from usae.evidence.planted.summary import CALLED_UNIVERSAL, OTHERS, TRACKED
from usae.evidence.planted.tables import PLANTED, PLANTED_CONCEPTS
from usae.evidence.planted.trial import MATCHED
from usae.evidence.planted.verdicts import FUNNEL
from usae.evidence.planted.world import SHARED


@stage
def main(params: Params) -> str:
    """Write `reports/planted.parquet` and `reports/planted_concepts.parquet`."""
    quantities, concepts = run(params)
    write_table(PLANTED, quantities, Layout().table(PLANTED))
    write_table(PLANTED_CONCEPTS, concepts, Layout().table(PLANTED_CONCEPTS))
    if params.quick:
        return LEFT
    shares = quantities[(quantities["setting"] == MATCHED) & quantities["by"].isin(["activity", FUNNEL])]
    value = shares.set_index(["quantity", "kind"])["value"]
    others = value.get((CALLED_UNIVERSAL, OTHERS), float("nan"))  # a world may have none
    return (
        f"{value[TRACKED, SHARED]:.0%} of the shared concepts tracked; of these the funnel calls"
        f" {value[CALLED_UNIVERSAL, SHARED]:.0%} universal, of the others {others:.0%}"
    )


if __name__ == "__main__":
    main()
