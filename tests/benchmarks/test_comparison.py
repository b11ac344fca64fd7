"""The comparison as a table: what a row says, with and without seeds."""

import numpy as np

from benchmarks.comparison import number, opened, over_seeds, table
from tests.support import compared as tables
from usae.common.tables import write_table
from usae.methods.comparison.tables import METHOD_FUNNEL, METHOD_SHARING, METHODS


def test_numbers_as_docs_write_them():
    assert [number(value) for value in (0.1234, -0.02, 1.0, 10.5, np.nan)] == [
        ".123",
        "-.020",
        "1.000",
        "10.500",
        "",
    ]
    assert over_seeds([]) == ""
    assert over_seeds([0.5]) == ".500"
    assert over_seeds([3, 1, 2], "{:.0f}") == "2 (1 to 3)"


def test_every_method_has_a_row_with_its_floors(tmp_path):
    for each, frame in (
        (METHODS, tables.methods()),
        (METHOD_FUNNEL, tables.funnel()),
        (METHOD_SHARING, tables.sharing()),
    ):
        write_table(each, frame, tmp_path / f"{each.name}.parquet")
    compared = opened(tmp_path)
    rows = [line.strip("| ").split(" | ") for line in table(compared).splitlines()[2:]]
    assert [row[0] for row in rows] == [each.label for each in compared.methods]
    sparc = next(row for row in rows if row[0] == "sparc")
    assert sparc[1:7] == [".718", ".318", ".464, .756", "81 (24; 2)", ".830", "2700"]
