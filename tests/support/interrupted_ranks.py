"""Signals one of two processes that train together: `python -m tests.support.interrupted_ranks FOLDER`.

FOLDER is empty. Each run is interrupted after its first checkpoint by a signal to one process alone; the same
two then go on with it until it ends. Run by tests/training/loop/test_interrupted_training.py.
"""

import json
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import time
from multiprocessing.context import ForkProcess as Process
from pathlib import Path

import torch

from tests.support.interrupted_training import contents, newest, training
from tests.support.worlds import two_models
from usae.common.runtime.ranks import join_processes

CASES = [(1, signal.SIGTERM), (0, signal.SIGINT)]
EPOCHS = 10


def member(folder: Path, out: str, rank: int, port: int) -> None:
    """One of the processes, as torchrun would start it."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    join_processes(torch.device("cpu"))
    training(folder, out, EPOCHS)


def pair(folder: Path, out: str) -> list[Process]:
    """Both of them, started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=member, args=(folder, out, rank, port)) for rank in range(2)]
    for process in processes:
        process.start()
    return processes


def codes(processes: list[Process]) -> list[int | None]:
    """How they ended; one that waits forever is killed, and has none."""
    for process in processes:
        process.join(60)
    found = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return found


def interrupted(folder: Path, rank: int, number: int) -> dict[str, object]:
    """A run whose process `rank` gets the signal `number` in its middle, and the run that goes on."""
    processes = pair(folder, "stopped")
    while newest(folder) < 1 and processes[0].is_alive():
        time.sleep(0.001)
    os.kill(processes[rank].pid or 0, number)
    stopped, saved = codes(processes), newest(folder)
    return {"stopped": stopped, "saved": saved, "ended": codes(pair(folder, "stopped"))}


def main(folder: Path) -> None:
    """Writes [{"stopped": exit codes, "saved": newest checkpoint, "ended": exit codes, "same": whether}, ...]."""
    two_models(folder)
    assert codes(pair(folder, "alone")) == [0, 0]
    expected, found = contents(folder / "alone"), []
    for rank, number in CASES:
        one = interrupted(folder, rank, number)
        found.append(one | {"same": contents(folder / "stopped") == expected})
        shutil.rmtree(folder / "stopped")
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
