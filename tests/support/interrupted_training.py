"""Interrupts real training runs: `python -m tests.support.interrupted_training FOLDER INTERRUPTIONS SEED`.

FOLDER is empty. Every run is a forked process of its own, stopped at a random moment after none, one or two more
checkpoints: three times in four by SIGKILL, else by SIGTERM. The next goes on where it stopped. A run that ends is
compared with one that was left alone, to the bit, and the next begins anew.
"""

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
import torch._dynamo  # an optimiser loads it late: here once, not in every run that is forked

from tests.support.worlds import RECIPE, two_models
from usae.common.errors import Interrupted
from usae.common.runtime.ranks import Ranks
from usae.common.variant import Variant
from usae.training.loop.checkpoints import Checkpoints
from usae.training.loop.loop import RunOptions, train

VARIANTS = {"main": Variant(4, 0), "null": Variant(3, 1, "shuffled")}
EVERY = 0.001  # minutes between checkpoints: several a run


def training(folder: Path, out: str, epochs: int = 40) -> None:
    """Two SAEs side by side, as a stage trains them; its outputs go to FOLDER/OUT."""
    torch.set_num_threads(1)
    manifests, data = two_models(folder)
    params = RECIPE.model_copy(update={"aux": "dead", "dead_after": 3, "epochs": epochs})
    checkpoints = Checkpoints(folder / "training" / out, {"test": 1}, EVERY)
    running = RunOptions(torch.device("cpu"), checkpoints=checkpoints)
    try:
        trained = train(VARIANTS, manifests, data, params, running, seed=0)
    except Interrupted as error:
        sys.exit(error.status)
    if Ranks.current().rank:
        return
    for name, one in trained.items():
        one.sae.save_pretrained(folder / out / name)
        one.log.to_parquet(folder / out / f"{name}.parquet")
    checkpoints.clear()


def forked(folder: Path, out: str) -> Process:
    """A run in a process of its own."""
    process = multiprocessing.get_context("fork").Process(target=training, args=(folder, out))
    process.start()
    return process


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def newest(folder: Path) -> int:
    """The number of the last checkpoint, 0 for none."""
    return max((int(path.stem) for path in folder.glob("training/stopped/*.state")), default=0)


def main(folder: Path, interruptions: int, seed: int) -> None:
    """Writes {"killed": ..., "terminated": ..., "resumed": ..., "compared": ...}."""
    two_models(folder)
    forked(folder, "alone").join()
    expected = contents(folder / "alone")
    rng, counts = np.random.default_rng(seed), {"killed": 0, "terminated": 0, "resumed": 0, "compared": 0}
    while counts["killed"] + counts["terminated"] < interruptions:
        before = newest(folder)
        counts["resumed"] += before > 0
        process, more = forked(folder, "stopped"), rng.integers(3)
        while process.exitcode is None and newest(folder) < before + more:
            time.sleep(0.001)
        process.join(rng.uniform(0, 0.1))
        term = rng.random() < 0.25
        if process.exitcode is None:
            (process.terminate if term else process.kill)()
        process.join()
        if process.exitcode == 0:
            assert contents(folder / "stopped") == expected
            counts["compared"] += 1
            shutil.rmtree(folder / "stopped")
        else:
            # -SIGTERM: it came before training had begun
            assert process.exitcode in (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM), process.exitcode
            counts["killed" if process.exitcode < 0 else "terminated"] += 1
    forked(folder, "stopped").join()
    assert contents(folder / "stopped") == expected
    sys.stdout.write(json.dumps(counts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
