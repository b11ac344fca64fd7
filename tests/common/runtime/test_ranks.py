"""A command that runs as several processes ends as they did."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from usae.common.runtime.ranks import Ranks, launch

ROOT = Path(__file__).parents[3]
COMMAND = [
    sys.executable,
    "-c",
    "from usae.common.runtime.ranks import launch; launch(2, 'tests.support.launched')",
]


def launched(folder, status, seconds=0.0):
    settings = {"FOLDER": str(folder), "STATUS": status, "SECONDS": str(seconds), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(COMMAND, cwd=ROOT, env=os.environ | settings, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("status", "expected"), [("0 0", 0), ("143 143", 143), ("0 1", 1)])
def test_the_status_is_theirs(tmp_path, status, expected):
    process = launched(tmp_path, status)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == expected, errors
    assert "Traceback" not in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


def test_a_killed_process_is_told_of(tmp_path):
    process = launched(tmp_path, "-9 0")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 137, errors
    assert "A process was ended by signal 9, perhaps for lack of memory. Run the same command again" in errors


def test_a_signal_is_handed_on(tmp_path):
    process = launched(tmp_path, "0 0", seconds=60)
    while len(list(tmp_path.iterdir())) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors
    assert "Traceback" not in errors


def test_alone_there_is_nothing_to_agree_on():
    launch(1, "tests.support.launched")
    alone = Ranks.current()
    assert alone == Ranks(0, 1)
    assert alone.highest([0, 15], torch.device("cpu")) == [0, 15]
    assert alone.sum(torch.ones(2)).tolist() == [1, 1]
    alone.barrier()
