"""Stage `interventions`: readouts of one model through another's codes, and concepts taken out one by one."""

from pipeline import stage
from usae.common.layout import Layout
from usae.common.params import LEFT, Params
from usae.common.tables import write_table
from usae.evidence.controls.names import RUN
from usae.evidence.interventions.run import run
from usae.evidence.interventions.tables import ABLATION, STITCHING


@stage
def main(params: Params) -> str:
    """Write `reports/stitching.parquet` and `reports/ablation.parquet`."""
    stitching, ablation = run(params)
    write_table(STITCHING, stitching, Layout().table(STITCHING))
    write_table(ABLATION, ablation, Layout().table(ABLATION))
    if params.quick:
        return LEFT
    if stitching.empty:
        return "nothing to read out: no label is on training and on held-out images, so both tables are empty"
    cross = stitching[(stitching["method"] == "usae") & (stitching["source"] != stitching["target"])]
    recovered = f"{cross['recovered'].mean():.2f} of a readout recovered across models"
    tested = ablation[(ablation["sae"] == RUN) & ablation["q"].notna()]
    agreement = (
        f"agreement {tested['agreement'].median():.2f} in the median, {tested['agreement'].max():.2f} at most"
    )
    return f"{recovered}, {tested['agrees'].sum()} of {len(tested)} concepts act alike in all: {agreement}"


if __name__ == "__main__":
    main()
