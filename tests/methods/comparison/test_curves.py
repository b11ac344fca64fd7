"""The points of `dvc plots`: what decides between methods, of runs and starts alone."""

import pandas as pd

from tests.support import compared as tables
from usae.methods.comparison.curves import method_points, write_points


def test_points_are_of_runs_and_starts_under_the_names_of_the_page():
    points = method_points(tables.seeds(tables.methods(), 3))
    assert list(points.columns) == ["method", "run", "measure", "value"]
    assert set(points["run"]) == {"run", "start"}
    assert {"usae", "hub (language)", "crosscoder (masked)", "linear (ridge)"} < set(points["method"])
    sparc = points[points["method"] == "sparc"].set_index(["measure", "run"])["value"].to_dict()
    assert sparc == {
        ("cross R² of one model's codes", "run"): 0.318,
        ("cross R² of one model's codes", "start"): 0.09,
        ("concepts shared by all models", "run"): 81,
        ("concepts shared by all models", "start"): 24,
        ("share that another start finds again", "run"): 0.2,
        ("share that another start finds again", "start"): 0.25,
    }


def test_what_is_written_is_read_as_it_was(tmp_path):
    table, path = tables.methods(), tmp_path / "plots" / "methods.csv"
    write_points(table, path)
    expected = method_points(table).reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.read_csv(path), expected, check_dtype=False)
