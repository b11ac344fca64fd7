import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from usae.common.errors import UserError
from usae.common.files.whole import below, disk_sentence, free_bytes, write_output, write_whole


@contextmanager
def small_files():
    """No file may be larger than 1000 bytes: the system then says what it says of a full disk.

    Only around the write itself: the limit holds for the test runner's own log as well.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    file = tmp_path / "a" / "b.json"
    write_whole(file, b"first")
    refused = r"b.json could not be written \(.*\): it needs 2\.0+kB, .* are free"
    with pytest.raises(UserError, match=refused), small_files():
        write_whole(file, b"x" * 1000, b"y" * 1000)
    assert file.read_bytes() == b"first"
    assert [path.name for path in file.parent.iterdir()] == ["b.json"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_an_error_without_a_file_names_the_folder(tmp_path):
    refused = pytest.raises(OSError, match="No space left")
    with refused as caught, below(tmp_path), open("/dev/full", "wb", buffering=0) as full:
        full.write(b"x")
    sentence = disk_sentence(caught.value)
    assert sentence.startswith(f"No space left on device ({tmp_path}); ")
    assert "run the same command again" in sentence


def test_whatever_the_disk_says_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder").mkdir()
    places = [
        tmp_path / "file" / "a",
        tmp_path / "link" / "a",
        tmp_path / ("long" * 100) / "a",
        tmp_path / "folder",
    ]
    for place in places:
        with pytest.raises(UserError, match=r"could not be written \(.*See to it that files can be written there"):
            write_whole(place, b"x")
    assert not list(tmp_path.rglob("*.partial"))


def test_what_a_killed_run_was_writing_goes_when_the_file_is_written_again(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    killed, running, other = f"curve.csv.{gone.pid}-0a", f"curve.csv.{os.getpid()}-0b", f"table.{gone.pid}-0c"
    for name in (killed, running, other):
        (tmp_path / f"{name}.partial").write_text("half")
    write_output(tmp_path / "curve.csv", b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {"curve.csv", f"{running}.partial", f"{other}.partial"}


def test_room_is_that_of_the_nearest_folder_there_is(tmp_path):
    assert free_bytes(tmp_path / "not" / "there") == pytest.approx(free_bytes(tmp_path), rel=0.1)
