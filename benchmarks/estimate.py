"""An estimate (`usae estimate`), and then the stages themselves: what was said, and what it took.

    python -m benchmarks.estimate [PARAMS] [--folder FOLDER]

Both run in a folder of their own, with the same parameters, one after the other. A stage's seconds are those that
it reports itself, without the start of Python; networks are pinned (stage `weights`) without being timed.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from usae.common.params import PARAMS_FILE, load_params
from usae.showing.estimate.estimate import estimate

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Print a line for each stage, and the sums."""
    options = _options()
    text = options.params.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        os.chdir(scratch)
        Path("data").mkdir()
        Path("data/external").symlink_to(ROOT / "data/external")
        Path(PARAMS_FILE).write_text(text, encoding="utf-8")
        compare()


def compare() -> None:
    """Estimate and run what lies in the working folder."""
    params = load_params()
    found = estimate(params)
    print("\n".join(found.lines()), flush=True)
    said: dict[str, float] = {}
    for cost in found.costs:
        name = cost.stage.partition(",")[0]
        said[name] = said.get(name, 0.0) + cost.seconds
    for model in params.models:
        seconds(f"weights@{model}")
    print(f"\nload {os.getloadavg()[0]:.1f}\n{'stage':24} {'said, s':>9} {'took, s':>9} {'ratio':>6}")
    took = {}
    for stage in said:
        took[stage] = seconds(stage)
        print(row(stage, said[stage], took[stage]), flush=True)
    print(row("total", sum(said.values()), sum(took.values())))


def row(stage: str, said: float, took: float) -> str:
    """A line of the table."""
    return f"{stage:24} {said:9.1f} {took:9.1f} {said / max(took, 0.05):6.2f}"


def seconds(stage: str) -> float:
    """Run a stage; what it says that it took."""
    name, _, item = stage.partition("@")
    command = [sys.executable, "-m", f"pipeline.{name}", *([item] if item else [])]
    ran = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    reported = re.findall(r"\((\d+\.\d) s\)$", ran.stderr.strip())
    if ran.returncode or not reported:
        sys.exit(f"{stage}:\n{ran.stderr}")
    return float(reported[-1])


def _options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("params", nargs="?", type=Path, default=ROOT / PARAMS_FILE)
    parser.add_argument("--folder", type=Path, help="on the disk to be asked; None: that of temporary files")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
