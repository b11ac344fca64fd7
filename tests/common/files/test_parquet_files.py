import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from usae.common.errors import UserError
from usae.common.files.parquet_files import read_parquet, write_parquet

GONE = "where that is gone, `dvc repro` makes it anew."


@pytest.fixture
def table():
    field = pa.field("label", pa.int32(), metadata={"description": "class"})
    return pa.table({"label": list(range(50))}, schema=pa.schema([field], metadata={"names": '["cat"]'}))


def test_any_reader_opens_the_file(tmp_path, table):
    file = tmp_path / "deeper" / "a.parquet"
    write_parquet(file, table)
    for read in (pq.read_table(file), read_parquet(file, "dvc repro")):
        assert read.equals(table, check_metadata=True)
    first = file.read_bytes()
    write_parquet(file, table)
    assert file.read_bytes() == first
    assert [path.name for path in file.parent.iterdir()] == ["a.parquet"]


def test_every_flipped_bit_is_found_in_pages_and_in_the_footer(tmp_path, table):
    file = tmp_path / "a.parquet"
    write_parquet(file, table)
    whole, sentences = file.read_bytes(), []
    for bit in random.Random(0).sample(range(8 * len(whole)), 500):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        try:
            assert read_parquet(file, "dvc repro").equals(table, check_metadata=True)
        except UserError as error:
            sentences.append(str(error))
    assert len(sentences) > 470  # the others are in the mark itself
    for sentence in sentences:
        assert sentence.startswith(f"{file} is damaged (")
        assert sentence.endswith(f"`dvc checkout {file}` brings back what was written; {GONE}")


@pytest.mark.parametrize("size", [0, 3, 7, 8, 40, -1])
def test_a_truncated_file_is_one_sentence(tmp_path, table, size):
    file = tmp_path / "a.parquet"
    write_parquet(file, table)
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(UserError, match="is damaged"):
        read_parquet(file, "dvc repro")


def test_files_of_others_are_read_as_they_are(tmp_path, table):
    pq.write_table(table, tmp_path / "a.parquet")
    assert read_parquet(tmp_path / "a.parquet", "dvc repro").equals(table)
