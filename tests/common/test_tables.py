import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from usae.common.errors import UserError
from usae.common.tables import no_rows, read_table, write_table
from usae.evidence.metrics.labels.tables import PROBES
from usae.training.tables import TRAINING


@pytest.fixture
def training():
    return pd.DataFrame(
        {
            "gradient_norm": [1.0, np.nan],
            "r2_self": [0.5, np.nan],
            "r2_cross": [0.25, np.nan],
            "step": [0, 1],
            "epoch": [0, 0],
            "source": ["language", "supervised"],
            "loss": [2.0, 1.5],
            "reconstruction": [1.9, 1.4],
            "auxiliary": [0.1, 0.1],
            "learning_rate": [1e-4, 2e-4],
        }
    )


def test_columns_come_back_in_declared_order_and_type(tmp_path, training):
    write_table(TRAINING, training, tmp_path / "training.parquet")
    frame = read_table(tmp_path / "training.parquet")
    assert list(frame) == TRAINING.names
    assert frame["epoch"].dtype == np.int32
    assert frame["source"].tolist() == ["language", "supervised"]
    assert pq.read_table(tmp_path / "training.parquet")["gradient_norm"].null_count == 1


def test_the_schema_carries_the_documentation(tmp_path, training):
    write_table(TRAINING, training, tmp_path / "training.parquet")
    schema = pq.read_schema(tmp_path / "training.parquet")
    assert schema.metadata[b"row"] == b"one logged training step"
    field = schema.field("step")
    assert field.metadata[b"description"] == b"number of the step, from 0"
    assert field.metadata[b"unit"] == b"steps"


def test_writing_again_gives_the_same_bytes_and_leaves_nothing_else(tmp_path, training):
    write_table(TRAINING, training, tmp_path / "training.parquet")
    first = (tmp_path / "training.parquet").read_bytes()
    write_table(TRAINING, training, tmp_path / "training.parquet")
    assert (tmp_path / "training.parquet").read_bytes() == first
    assert [file.name for file in tmp_path.iterdir()] == ["training.parquet"]


def test_every_fault_is_listed_and_nothing_is_written(tmp_path, training):
    wrong = training.drop(columns="loss").assign(hostname="x", step=[0.5, 1.5], epoch=["a", "b"])
    with pytest.raises(UserError) as refusal:
        write_table(TRAINING, wrong, tmp_path / "training.parquet")
    text = str(refusal.value)
    assert "The table `training` does not match its declaration:" in text
    assert "The column `loss` is missing." in text
    assert "The column `hostname` is not declared." in text
    assert "The column `step` should be int64, found float64" in text
    assert "The column `epoch` should be int32" in text
    assert not list(tmp_path.iterdir())


def test_numbers_that_do_not_fit_are_refused(tmp_path, training):
    with pytest.raises(UserError, match="The column `epoch` should be int32, found int64"):
        write_table(TRAINING, training.assign(epoch=2**40), tmp_path / "training.parquet")


def test_a_table_without_rows_is_written(tmp_path):
    empty = no_rows(PROBES)
    write_table(PROBES, empty, tmp_path / "probes.parquet")
    assert len(read_table(tmp_path / "probes.parquet")) == 0


def test_an_absent_table_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.parquet, found none\. Run `dvc repro`"):
        read_table(tmp_path / "nothing.parquet")
