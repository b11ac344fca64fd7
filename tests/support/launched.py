"""A process that ends as its environment says, once it has left a file: for tests/common/runtime/test_ranks.py."""

import os
import signal
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    rank = int(os.environ["RANK"])
    folder = Path(os.environ["FOLDER"])
    (folder / str(rank)).touch()
    while len(list(folder.iterdir())) < int(os.environ["WORLD_SIZE"]):  # one that fails ends the others at once
        time.sleep(0.02)
    time.sleep(float(os.environ["SECONDS"]))
    status = int(os.environ["STATUS"].split()[rank])
    if status < 0:
        os.kill(os.getpid(), -status)
    sys.exit(status)
