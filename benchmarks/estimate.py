"""An estimate (`usae estimate`), and then the stages themselves: what was said, and what it took.

    python -m benchmarks.estimate [PARAMS] [--folder FOLDER]

Both run in a folder of their own, with the same parameters, one after the other; each stage is a process, as `dvc
repro` starts it, and its start counts. CPU time, of all processors together, says how good the estimate is where
something else runs beside it, too; wall time says so on a machine that does nothing else. The last lines have the
totals, with their ratios, and the disk.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from usae.common.files.whole import size_text
from usae.common.params import PARAMS_FILE, load_params
from usae.showing.estimate.clocks import Cost, clocks, took
from usae.showing.estimate.estimate import CostEstimate, duration, estimate
from usae.showing.estimate.rehearsal import written
from usae.showing.estimate.small import environment
from usae.showing.results.inputs import DVC_FILE

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Print the estimate, a line for each stage, and the totals."""
    options = _options()
    text = options.params.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        os.chdir(scratch)
        Path("data").mkdir()
        Path("data/external").symlink_to(ROOT / "data/external")
        Path(DVC_FILE).symlink_to(ROOT / DVC_FILE)
        Path(PARAMS_FILE).write_text(text, encoding="utf-8")
        began = time.perf_counter()
        found = estimate(load_params())
        print("\n".join(found.lines()), f"\nestimated in {duration(time.perf_counter() - began)}", flush=True)
        compare(found)


def compare(found: CostEstimate) -> None:
    """Run the stages in the working folder, beside what was said of them."""
    print(f"\nload {os.getloadavg()[0]:.1f}\n{'':24} {'wall s':>25} {'CPU s':>27}")
    print(f"{'stage':24}" + f" {'said':>9} {'took':>9} {'ratio':>7}" * 2)
    costs = []
    for each in found.costs:
        costs.append(ran(each.stage))
        print(row(each.stage, each.cost, costs[-1]), flush=True)
    said = Cost(found.seconds, found.cpu)
    print(row("total", said, Cost(*(sum(values) for values in zip(*costs, strict=True)))))
    print(f"disk: said {size_text(found.disk)}, took {size_text(written())}")


def row(stage: str, said: Cost, real: Cost) -> str:
    """A line of the table."""
    pairs = ((said.wall, real.wall), (said.cpu, real.cpu))
    return f"{stage:24}" + "".join(f" {one:9.1f} {other:9.1f} {one / other:7.2f}" for one, other in pairs)


def ran(stage: str) -> Cost:
    """What a stage takes, as a process."""
    name, _, item = stage.partition("@")
    command, before = [sys.executable, "-m", f"pipeline.{name}", *([item] if item else [])], clocks()
    done = subprocess.run(command, env=environment(), stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{stage}:\n{done.stderr}")
    return took(before)


def _options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("params", nargs="?", type=Path, default=ROOT / PARAMS_FILE)
    parser.add_argument("--folder", type=Path, help="on the disk to be asked; None: that of temporary files")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
