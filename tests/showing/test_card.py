import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import usae
from tests.support.synthetic_run import synthetic_run


def write(frame, path):
    """A table whose columns are described, as every table of a run."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    described = [field.with_metadata({"description": field.name}) for field in table.schema]
    pq.write_table(table.cast(pa.schema(described)), path)


def test_the_card_says_what_the_tables_say(tmp_path):
    run = synthetic_run(tmp_path)
    card = usae.model_card(run.root)
    assert card.startswith("---\nlibrary_name: usae\n")
    assert "# Universal sparse autoencoder of supervised, distilled, language" in card
    assert "No verdict: `dvc repro measure` reaches one." in card
    assert "| supervised | 0.61 | 0.36 | 0.25 |" in card
    assert f"Held-out images: {len(run.index)}" in card
    assert 'encode_images("supervised", ["dog.jpg"], sae="USER/NAME")' in card
    assert "pass each step" not in card


def test_the_funnel_stands_in_the_card_where_the_run_may_be_read(tmp_path):
    run = synthetic_run(tmp_path)
    rows = [("usae", False, "alive", 30), ("usae", False, "stable", 5), ("usae", True, "alive", 28)]
    frame = pd.DataFrame(rows, columns=["run", "start", "step", "concepts"]).assign(level=float("nan"))
    write(frame, run.root / "reports/funnel.parquet")
    assert "| usae | 30 | 5 |\n| usae, before its first step | 28 |  |" in usae.model_card(run.root)
    levels = pd.DataFrame(
        {"level": ["not readable"], "asked": [True], "reason": ["R2 is below 0"], "question": [""]}
    )
    write(levels, run.root / "reports/verdict.parquet")
    card = usae.model_card(run.root)
    assert "Not readable: R2 is below 0." in card
    assert "pass each step" not in card
