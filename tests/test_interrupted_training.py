"""Nothing of a training run is lost: kills, signals, several processes."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
INTERRUPTIONS = 20


def run(*arguments: str) -> str:
    found = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_twenty_interruptions_change_no_bit(tmp_path):
    counts = json.loads(run("tests.interrupted_training", str(tmp_path), str(INTERRUPTIONS), "0").splitlines()[-1])
    assert counts["killed"] + counts["terminated"] == INTERRUPTIONS
    assert counts["killed"] >= 10
    assert counts["terminated"] >= 1
    assert counts["resumed"] >= 10  # otherwise the kills came before anything was saved
