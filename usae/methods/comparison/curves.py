"""A small CSV for `dvc plots`: what decides between methods, after training and before (stage `compare`)."""

from pathlib import Path

import pandas as pd

from usae.common.files.whole import write_output
from usae.methods.runs.variants import RUN, START

MEASURES = {  # of table `methods`: a panel each
    "r2_cross_mean": "cross R² of one model's codes",
    "shared": "concepts shared by all models",
    "comes_back_share": "share that another start finds again",
}


def write_points(methods: pd.DataFrame, path: Path) -> None:
    """`method_points` as CSV; same numbers, same bytes."""
    points = method_points(methods)
    write_output(path, points.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode())


def method_points(methods: pd.DataFrame) -> pd.DataFrame:
    """method ("sparc", "hub (language)"), run, measure, value: those rows of table `methods`, runs and starts."""
    rows = methods[methods["measure"].isin(list(MEASURES)) & methods["run"].isin([RUN, START])]
    form = rows["form"].map(lambda name: "" if pd.isna(name) else f" ({name.removeprefix('hub-')})")
    return pd.DataFrame(
        {
            "method": rows["method"] + form,
            "run": rows["run"],
            "measure": rows["measure"].map(MEASURES),
            "value": rows["value"].astype(float),
        }
    )
