"""Stage `interventions`: readouts of one model through another's codes, and concepts taken out one by one."""

from pathlib import Path

from pipeline import stage
from usae.activations.store import store_root
from usae.common.params import Params
from usae.common.runtime.device import configure
from usae.common.tables import write_table
from usae.evidence.interventions.study import Study, intervene
from usae.evidence.interventions.tables import ABLATION, STITCHING


@stage
def main(params: Params) -> str:
    """Write `reports/stitching.parquet` and `reports/ablation.parquet`."""
    device = configure(params.runtime)
    study = Study.load(params.models, store_root(params.runtime.store), device, Path("data"))
    images, threshold = params.interventions.readout_images, params.measure.threshold
    stitching, ablation = intervene(study, images, threshold, params.seed)
    write_table(STITCHING, stitching, Path("reports/stitching.parquet"))
    write_table(ABLATION, ablation, Path("reports/ablation.parquet"))
    if stitching.empty:
        return "nothing to read out: no label is on training and on held-out images, so both tables are empty"
    cross = stitching[(stitching["method"] == "usae") & (stitching["source"] != stitching["target"])]
    recovered = f"{cross['recovered'].mean():.2f} of a readout recovered across models"
    return f"{recovered}, {ablation['agrees'].sum()} of {len(ablation)} concepts act alike in all"


if __name__ == "__main__":
    main()
