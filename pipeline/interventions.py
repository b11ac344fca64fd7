"""Stage `interventions`: readouts of one model through another's codes, and concepts taken out one by one."""

from pipeline import stage
from usae.common.layout import Layout
from usae.common.params import LEFT, Params
from usae.common.tables import write_table
from usae.evidence.interventions.run import run
from usae.evidence.interventions.summary import summary
from usae.evidence.interventions.tables import ABLATION, STITCHING


@stage
def main(params: Params) -> str:
    """Write `reports/stitching.parquet` and `reports/ablation.parquet`."""
    stitching, ablation = run(params)
    write_table(STITCHING, stitching, Layout().table(STITCHING))
    write_table(ABLATION, ablation, Layout().table(ABLATION))
    return LEFT if params.quick else summary(stitching, ablation)


if __name__ == "__main__":
    main()
