"""What a run costs before its images count: every stage at the paper's sizes, on few images.

    python -m benchmarks.fixed [--train 96 --val 32] [--folder FOLDER [--only STAGE ...]]

Three networks of one block with random weights give 196 tokens of 768, 384 and 768 channels; all SAEs have 6144
concepts, k 32. Each stage is a process of its own without a terminal, as in a batch job: its CPU seconds, its peak
memory, the longest time that it says nothing, and after which line. SAEs start at tokens (`benchmarks.clusters`
has what the search for clusters takes). With --folder the run stays there, and --only repeats stages of it.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from benchmarks.streams import OF_EACH, ROOT, inside

WIDTHS = {"vit": 768, "dinov2": 384, "siglip": 768}
STAGES = [
    "train",
    "controls",
    "methods",
    "encode",
    "contrast",
    "planted",
    "measure",
    "ood",
    "interventions",
    "onboarding",
    "compare",
    "maximise",
    "report",
]
METHODS = ["crosscoder"]
SIZES: dict[str, dict[str, Any]] = {
    "extract": {"grid": 14, "chunk_images": 32},
    "train": {"dictionary": 6144, "levels": [768], "epochs": 1, "batch_images": 32, "init": "paired"},
    "encode": {"train_images": 32},
    "methods": {
        "trained": METHODS,
        "fitted": ["linear", "hub", "matched", "atlas", "rosetta", "kmeans"],
        "images": None,
        "epochs": None,
    },
    "measure": {"permutations": 9},
    "maximise": {"concepts": 1, "steps": 2, "starts": 1, "size": 56, "random": 1},
    "report": {"own_images": 1},
    "runtime": {"threads": 1, "dask": None},
}


@dataclass(frozen=True)
class Cost:
    """What a process took. cpu, wall: seconds; peak: resident megabytes; silent: most seconds between two lines of
    its output, `after` the first of these.
    """

    cpu: float
    wall: float
    peak: float
    silent: float
    after: str


def main() -> None:
    """Run all stages, and print a row for each."""
    options = _options()
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        params = at_full_size(yaml.safe_load((ROOT / "params.yaml").read_text()), options.train, options.val)
        stack.enter_context(inside(folder.resolve(), params))
        print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, one thread")
        print(
            "| stage | CPU-s | wall s | peak MB | longest silence, s | after |\n|---|---|---|---|---|---|",
            flush=True,
        )
        for stage, *arguments in _commands(options.only or ["images", *OF_EACH, *STAGES]):
            cost = watched([sys.executable, "-m", f"pipeline.{stage}", *arguments])
            print(row(" ".join([stage, *arguments]), cost), flush=True)


def at_full_size(params: dict[str, Any], train: int, val: int) -> dict[str, Any]:
    """`params` at the paper's sizes, with networks of one block that have random weights."""
    for section, values in SIZES.items():
        params[section] |= values
    params["k"], params["zoo"] = 32, {}
    params["images"] |= {"train": train, "val": val}
    params["interventions"]["onboarding_images"] = [train // 4, train // 2, train]
    for name, width in WIDTHS.items():
        size = {"img_size": 56, "patch_size": 4, "embed_dim": width, "depth": 1, "num_heads": 6, "num_classes": 0}
        backbone = {"timm": "vit_tiny_patch16_224", "kwargs": size, "weights": "random"}
        params["zoo"][name] = {"backbone": backbone, "layer": -1, "norm": True}
    params["models"] = list(params["zoo"])
    return params


def row(stage: str, cost: Cost) -> str:
    """One line of the table."""
    after = cost.after.replace("|", "/")[:60]
    return f"| `{stage}` | {cost.cpu:.0f} | {cost.wall:.0f} | {cost.peak:,.0f} | {cost.silent:.0f} | {after} |"


def watched(command: list[str]) -> Cost:
    """Run a command in this folder, and watch what it writes.

    Raises:
        subprocess.CalledProcessError: it ended with another status than 0; what it wrote is on stderr.
    """
    moments = [(time.monotonic(), "its start")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=environment, **pipe) as process:
        assert process.stdout is not None
        moments += [(time.monotonic(), line.strip()) for line in process.stdout]
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    moments.append((time.monotonic(), "its end"))
    if process.returncode:
        sys.stderr.write("\n".join(line for _, line in moments) + "\n")
        raise subprocess.CalledProcessError(process.returncode, command)
    silent, after = max((later - moment, line) for (moment, line), (later, _) in pairwise(moments))
    wall = moments[-1][0] - moments[0][0]
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024, silent, after)


def _commands(stages: list[str]) -> Iterator[tuple[str, ...]]:
    """Names of stages, with what each is asked for."""
    asked = {stage: list(WIDTHS) for stage in OF_EACH} | {"methods": METHODS}
    for stage in stages:
        yield from [(stage, name) for name in asked[stage]] if stage in asked else [(stage,)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--train", type=int, default=96, help="training images")
    parser.add_argument("--val", type=int, default=32, help="held-out images")
    parser.add_argument("--folder", type=Path, help="where the run stays (default: it is removed)")
    parser.add_argument(
        "--only", choices=["images", *OF_EACH, *STAGES], nargs="+", metavar="STAGE", help="of a run that stayed"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
