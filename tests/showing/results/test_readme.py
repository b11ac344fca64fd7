"""`reports/README.md` says what the files' own schemas say, and nothing else."""

import ast
import importlib

import pyarrow.parquet as pq
import pytest

from tests.support.imports import ROOT
from usae.common.tables import Table, no_rows, write_table
from usae.showing.results.readme import readme


def declared() -> list[Table]:
    """Every table that a room of usae/ declares."""
    tables = []
    for file in sorted((ROOT / "usae").rglob("*tables.py")):
        names = [node.targets[0].id for node in ast.parse(file.read_text()).body if isinstance(node, ast.Assign)]
        module = importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
        tables += [value for value in (getattr(module, name) for name in names) if isinstance(value, Table)]
    return tables


@pytest.mark.parametrize("table", declared(), ids=lambda table: table.name)
def test_every_column_is_described(table, tmp_path):
    file = tmp_path / f"{table.name}.parquet"
    write_table(table, no_rows(table), file)
    text = readme({file: pq.read_schema(file)}, tmp_path)
    assert f"## {table.name}.parquet\n\nOne row is {table.row}." in text
    for column, field in zip(table.columns, pq.read_schema(file), strict=True):
        assert column.meaning
        shown = field.metadata[b"description"].decode().replace("|", "\\|")
        assert f"| `{column.name}` | {field.type} | {column.unit} | {shown} |" in text
        assert column.denominator in shown
    widths = {line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {5}


def test_names_of_tables_are_unique():
    names = [table.name for table in declared()]
    assert len(names) == len(set(names)) >= 27
