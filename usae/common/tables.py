"""What a table is: its columns, their units, meanings and denominators, declared in the room that writes it.

The declaration validates and types what a stage writes, and is stored in the Parquet schema (metadata
`description` and `unit` of each field), from which stage `report` prints `reports/README.md`.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from usae.common.errors import UserError
from usae.common.files.parquet_files import read_parquet, write_parquet


@dataclass(frozen=True)
class Column:
    """One column: `dtype` is a pyarrow type name; `unit` is empty for pure numbers and names."""

    name: str
    dtype: str
    meaning: str
    unit: str = ""
    denominator: str = ""

    @property
    def field(self) -> pa.Field:
        """The pyarrow field with its documentation as metadata."""
        description = f"{self.meaning}; denominator: {self.denominator}" if self.denominator else self.meaning
        metadata = {"description": description, "unit": self.unit}
        return pa.field(self.name, pa.type_for_alias(self.dtype), metadata=metadata)


@dataclass(frozen=True)
class Table:
    """One table: `row` says what one row is. Its file is `<name>.parquet`."""

    name: str
    row: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> list[str]:
        """The columns' names, in declared order."""
        return [column.name for column in self.columns]

    @property
    def schema(self) -> pa.Schema:
        """The pyarrow schema, documentation included."""
        return pa.schema([column.field for column in self.columns], metadata={"table": self.name, "row": self.row})


def write_table(declared: Table, frame: pd.DataFrame, path: Path) -> None:
    """Validate `frame` against `declared` and write it as Parquet, in one go and byte-identical on a rerun.

    Columns are put in declared order; NaN becomes null. Raises UserError, listing every fault, when columns
    are missing or undeclared, or hold values that the declared type cannot.
    """
    table = pa.Table.from_arrays(_arrays(declared, frame), schema=declared.schema)
    write_parquet(path, table)


def read_table(path: Path) -> pd.DataFrame:
    """Read a table of `reports/`; UserError when it is absent or damaged."""
    if not path.is_file():
        raise UserError(f"Expected the table {path}, found none. Run `dvc repro` to write it.")
    frame: pd.DataFrame = read_parquet(path, "dvc repro").to_pandas()
    return frame


def descriptions(schema: pa.Schema) -> dict[str, str]:
    """What the columns of a file that `write_table` wrote mean, by name."""
    return {field.name: field.metadata[b"description"].decode() for field in schema}


def no_rows(declared: Table) -> pd.DataFrame:
    """The table where there is nothing to measure."""
    return pd.DataFrame({name: pd.Series(dtype=object) for name in declared.names})


def _arrays(declared: Table, frame: pd.DataFrame) -> list[pa.Array]:
    names = declared.names
    faults = [f"The column `{name}` is missing." for name in names if name not in frame.columns]
    faults += [f"The column `{name}` is not declared." for name in frame.columns if name not in names]
    arrays = []
    for column in declared.columns:
        if column.name not in frame.columns:
            continue
        try:
            arrays.append(pa.Array.from_pandas(frame[column.name], type=column.field.type, safe=True))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as fault:
            found = frame[column.name].dtype
            faults.append(f"The column `{column.name}` should be {column.dtype}, found {found}: {fault}.")
    if faults:
        raise UserError.listing(f"The table `{declared.name}` does not match its declaration:", faults)
    return arrays
