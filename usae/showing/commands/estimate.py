"""Says what a run will cost here: time and disk of every stage, memory, and what does not fit.

usae estimate [PARAMS] [--train N --val N]
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from usae.common.errors import UserError
from usae.common.params import PARAMS_FILE, load_params
from usae.showing.estimate.estimate import estimate


def main(arguments: Sequence[str] | None = None) -> int:
    """Time two small runs, print the estimate; 1 where it cannot be made."""
    parser = argparse.ArgumentParser(prog="usae estimate", description="Time two small runs here, count the rest.")
    parser.add_argument("params", nargs="?", type=Path, default=PARAMS_FILE, metavar="PARAMS")
    parser.add_argument(
        "--train", type=int, help="training images that there will be, where they are not here yet"
    )
    parser.add_argument("--val", type=int, help="held-out images, likewise")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        found = estimate(load_params(given.params), given.train, given.val)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("\n".join([*found.lines(), ""]))
    return 0
