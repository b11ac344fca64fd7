"""Signals one of two processes that train together: `python -m tests.support.interrupted_ranks FOLDER`.

FOLDER is empty. Each run is interrupted after its first checkpoint by a signal to one process alone; the same
two then go on with it until it ends. Run by tests/training/loop/test_interrupted_training.py.
"""

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from tests.support.interrupted_training import contents, newest, training
from tests.support.pairs import codes, pair
from tests.support.worlds import two_models

CASES = [(1, signal.SIGTERM), (0, signal.SIGINT)]
EPOCHS = 10


def interrupted(folder: Path, rank: int, number: int) -> dict[str, object]:
    """A run whose process `rank` gets the signal `number` in its middle, and the run that goes on."""
    processes = pair(training, folder, "stopped", EPOCHS)
    while newest(folder) < 1 and processes[0].is_alive():
        time.sleep(0.001)
    os.kill(processes[rank].pid or 0, number)
    stopped, saved = codes(processes), newest(folder)
    return {"stopped": stopped, "saved": saved, "ended": codes(pair(training, folder, "stopped", EPOCHS))}


def main(folder: Path) -> None:
    """Writes [{"stopped": exit codes, "saved": newest checkpoint, "ended": exit codes, "same": whether}, ...]."""
    two_models(folder)
    assert codes(pair(training, folder, "alone", EPOCHS)) == [0, 0]
    expected, found = contents(folder / "alone"), []
    for rank, number in CASES:
        one = interrupted(folder, rank, number)
        found.append(one | {"same": contents(folder / "stopped") == expected})
        shutil.rmtree(folder / "stopped")
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
