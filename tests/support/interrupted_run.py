"""Kills real extractions: `python -m tests.support.interrupted_run FOLDER KILLS SEED` (test_interruptions.py).

FOLDER holds pictures/, images/ and weights/. Every extraction is a forked process of its own, so that the imports
are paid once; the parent never computes. Each is killed (SIGKILL) at a random moment of the time that a whole run
takes; the next goes on where it stopped. A store that is finished is compared and cleared.
"""

import hashlib
import json
import multiprocessing
import shutil
import signal
import sys
import time
from multiprocessing.context import ForkProcess as Process
from pathlib import Path

import numpy as np
import torch

from usae.activations.extraction.extract import extract
from usae.activations.extraction.extractor import Extraction
from usae.common.params import load_params


def extraction(folder: Path) -> None:
    """Two layers of one network, both splits, as stages `extract@m` and `extract@early` do it."""
    torch.set_num_threads(1)
    params = load_params()
    settings = params.extract.model_copy(update={"grid": 3, "chunk_images": 4, "statistics_images": 10})  # of 4
    runtime = params.runtime.model_copy(update={"store": str(folder / "activations"), "workers": 2})
    pictures = str(folder / "pictures")
    last, early = (
        Extraction(model, folder / "weights", layer, True, folder / "images", pictures, settings, runtime)
        for model, layer in (("m", -1), ("early", 0))
    )
    manifest = extract(last, [early])
    extract(early, [last])
    manifest.save(folder / "m.json")


def forked(folder: Path) -> Process:
    """An extraction in a process of its own."""
    process = multiprocessing.get_context("fork").Process(target=extraction, args=(folder,))
    process.start()
    return process


def finished(process: Process) -> bool:
    """Wait for a process; whether it came to its end."""
    process.join()
    if process.exitcode not in (0, -signal.SIGKILL):
        raise SystemExit("The extraction failed.")
    return process.exitcode == 0


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of the stores, and of the manifest."""
    files = [path for path in (folder / "activations").rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in [*files, folder / "m.json"]
    }


def clear(folder: Path) -> None:
    """As before the first run."""
    shutil.rmtree(folder / "activations")
    (folder / "m.json").unlink(missing_ok=True)


def main(folder: Path, kills: int, seed: int) -> dict[str, list[int]]:
    """Kill `kills` runs.

    Returns chunks: how many were there after each kill; differing: for every extraction that came to its end, in
    how many files it differs from an undisturbed one.
    """
    started = time.monotonic()
    finished(forked(folder))
    duration, expected = time.monotonic() - started, digests(folder)
    clear(folder)
    rng = np.random.default_rng(seed)
    chunks, differing = [], []
    while len(chunks) < kills:
        process = forked(folder)
        time.sleep(rng.uniform(0, duration))
        process.kill()
        if finished(process):
            differing.append(difference(folder, expected))
            clear(folder)
        else:
            chunks.append(len(list((folder / "activations").rglob("c/*/0/0"))))
    finished(forked(folder))
    return {"chunks": chunks, "differing": [*differing, difference(folder, expected)]}


def difference(folder: Path, expected: dict[str, str]) -> int:
    """In how many files two runs differ, surplus and missing ones included."""
    return len(set(digests(folder).items()) ^ set(expected.items()))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
