"""`reports/README.md`: what every table and column means, as the Parquet files themselves say (stage `report`)."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

HEAD = """# Reports

Parquet tables: `pandas.read_parquet("reports/concepts.parquet")`. The texts below are those of each file's schema.
A concept *fires* in a model on a token when its code exceeds `measure.threshold`; all models look at the same
held-out tokens. An empty value (null, NaN) means that the number is not defined there, never 0.
"""


def readme(schemas: Mapping[Path, pa.Schema], root: Path = Path()) -> str:
    """The text, with a section for each Parquet file, by their paths, which are relative to `root`."""
    return "\n".join([HEAD, *(_section(file.relative_to(root), schemas[file]) for file in sorted(schemas))])


def _section(file: Path, schema: pa.Schema) -> str:
    texts = {key.decode(): text.decode() for key, text in (schema.metadata or {}).items()}
    lines = [
        f"## {file}\n",
        f"One row is {texts['row']}.\n",
        "| column | type | unit | meaning |",
        "|---|---|---|---|",
    ]
    for field in schema:
        unit, meaning = (field.metadata[key].decode().replace("|", "\\|") for key in (b"unit", b"description"))
        lines.append(f"| `{field.name}` | {field.type} | {unit} | {meaning} |")
    return "\n".join(lines) + "\n"
