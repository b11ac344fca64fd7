"""Kills, flipped bits, full disks and races, each drawn by seed, in a small world; what comes of them is counted.

python -m benchmarks.faults [--seeds 0 1 2] [--faults 200] [--quick] [--number N]
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from benchmarks.faults.campaign import KINDS, LOST, RAW, SURVIVED, Campaign, Verdict
from benchmarks.faults.world import stages

QUICK = ("images", "weights", "extract", "untrained", "train", "controls", "encode", "ood", "interventions")
STAGES = (*QUICK, "contrast", "measure", "methods", "compare", "onboarding", "planted", "maximise", "report")

MEMORY = Path("/dev/shm")  # where there is one: nothing waits for a disk


def main() -> int:
    """Print every fault that was not survived, and the counts; 1 where there was one."""
    given = _parser().parse_args()
    torch.set_num_threads(1)
    began, verdicts = time.monotonic(), list[Verdict]()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        campaign = Campaign.prepared(Path(folder), stages(QUICK if given.quick else STAGES))
        for seed in given.seeds:
            for number in [given.number] if given.number is not None else range(given.faults):
                verdicts.append(campaign.fault(seed, number))
                _say(seed, number, verdicts[-1])
                shutil.rmtree(Path(folder) / f"copy-{number}")
    sys.stdout.write(f"{table(verdicts)}\n{time.monotonic() - began:.0f} s\n")
    return int(any(each.verdict != SURVIVED for each in verdicts))


def table(verdicts: list[Verdict]) -> str:
    """Counts by kind of fault."""
    lines = ["| fault | tried | survived | raw | lost |", "|---|---|---|---|---|"]
    for kind in [*KINDS, "all"]:
        counts = Counter(each.verdict for each in verdicts if kind in (each.kind, "all"))
        lines.append(f"| {kind} | {counts.total()} | {counts[SURVIVED]} | {counts[RAW]} | {counts[LOST]} |")
    return "\n".join(lines)


def _say(seed: int, number: int, verdict: Verdict) -> None:
    if verdict.verdict != SURVIVED:
        sys.stdout.write(f"seed {seed}, fault {number}, {verdict.verdict}: {verdict.what}\n{verdict.why}\n\n")
        sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--faults", type=int, default=200, help="of each seed")
    parser.add_argument("--quick", action="store_true", help="the stages that take less than a second")
    parser.add_argument("--number", type=int, help="this fault alone")
    return parser


if __name__ == "__main__":
    sys.exit(main())
