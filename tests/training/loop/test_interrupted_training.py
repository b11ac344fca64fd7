"""Nothing of a training run is lost: kills, signals, several processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
INTERRUPTIONS = 20


def run(*arguments: str) -> str:
    found = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_twenty_interruptions_change_no_bit(tmp_path):
    counts = json.loads(
        run("tests.support.interrupted_training", str(tmp_path), str(INTERRUPTIONS), "0").splitlines()[-1]
    )
    assert counts["killed"] + counts["terminated"] == INTERRUPTIONS
    assert counts["killed"] >= 10
    assert counts["terminated"] >= 1
    assert counts["resumed"] >= 10  # otherwise the kills came before anything was saved


def test_a_signal_to_one_of_two_processes_ends_both_and_changes_no_bit(tmp_path):
    found = json.loads(run("tests.support.interrupted_ranks", str(tmp_path)).splitlines()[-1])
    assert [one["stopped"] for one in found] == [[143, 143], [130, 130]]
    assert all(one["saved"] >= 2 and one["ended"] == [0, 0] and one["same"] for one in found), found
