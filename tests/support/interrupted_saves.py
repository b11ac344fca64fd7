"""Kills real saves: `python -m tests.support.interrupted_saves FOLDER KILLS SEED`, run by test_checkpoints.py.

Every run is a forked process of its own, so that the imports are paid once; the parent only reads. A run loads the
newest checkpoint, saves one after another, and is killed (SIGKILL) at a random moment; every other run as soon as
it is writing a file after that, however fast the disk is.
"""

import json
import multiprocessing
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from usae.training.loop.checkpoints import Checkpoints

SIZE = 1_000_000
PATIENCE = 30.0  # seconds for which a run is watched for a file that it is writing


def state(step: int) -> dict[str, object]:
    """4 MB that say throughout which step they are of."""
    return {"step": step, "weights": torch.full((SIZE,), float(step)), "names": ["a", str(step)]}


def whole(found: dict[str, object]) -> bool:
    """Whether all parts of a loaded state are of one step."""
    expected = state(int(str(found["step"])))
    return found["names"] == expected["names"] and torch.equal(found["weights"], expected["weights"])  # type: ignore[arg-type]


def run(folder: Path, saved: Connection) -> None:
    """Save for ever; tell the parent each step that is saved."""
    torch.set_num_threads(1)
    checkpoints = Checkpoints(folder, {"k": 16}, 0)
    loaded = checkpoints.load()
    step = int(loaded["step"]) if loaded else 0
    while True:
        step += 1
        checkpoints.save(state(step))
        saved.send(step)


def until_written(folder: Path) -> None:
    """Return while a file is being written."""
    deadline = time.monotonic() + PATIENCE
    while not any(folder.glob("*.partial")) and time.monotonic() < deadline:
        pass


def main(folder: Path, kills: int, seed: int) -> dict[str, list[int]]:
    """Kill `kills` runs; for each the last step that it said was saved, the one loaded after it, and the rest.

    partial: files that were being written; whole: 1 where the loaded state is consistent.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, list[int]] = {"said": [], "loaded": [], "partial": [], "whole": [], "files": []}
    for kill in range(kills):
        receiver, sender = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=run, args=(folder, sender))
        process.start()
        sender.close()
        said = receiver.recv()
        time.sleep(rng.uniform(0, 0.15))
        if kill % 2:
            until_written(folder)
        process.kill()
        process.join()
        while receiver.poll():
            try:
                said = receiver.recv()
            except (EOFError, OSError):
                break
        found["partial"].append(len(list(folder.glob("*.partial"))))
        loaded = Checkpoints(folder, {"k": 16}, 0).load()
        found["said"].append(said)
        found["loaded"].append(int(loaded["step"]) if loaded else -1)
        found["whole"].append(int(loaded is not None and whole(loaded)))
        found["files"].append(len(list(folder.iterdir())))
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
