"""Says all that is wrong with a params.yaml in seconds, before anything runs; run it from the repository's root.

usae check [PARAMS]
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from usae.activations.commands.outlook import Outlook, outlook
from usae.common.errors import UserError
from usae.common.params import PARAMS_FILE, read_params


def main(arguments: Sequence[str] | None = None) -> int:
    """Print faults, notes and sizes; 1 where there is a fault."""
    parser = argparse.ArgumentParser(prog="usae check", description="Say what is wrong with a params.yaml.")
    parser.add_argument("params", nargs="?", type=Path, default=PARAMS_FILE, metavar="PARAMS")
    given = parser.parse_args(arguments)
    try:
        seen = outlook(read_params(given.params))
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(report(seen))
    sys.stdout.write(f"{given.params}: {len(seen.faults) or 'no'} fault{'' if len(seen.faults) == 1 else 's'}\n")
    return 1 if seen.faults else 0


def report(seen: Outlook) -> str:
    """An outlook as lines: what there is, what to know, what is wrong."""
    kinds = {"": seen.facts, "note: ": seen.notes, "FAULT: ": seen.faults}
    return "".join(f"{kind}{sentence}\n" for kind, sentences in kinds.items() for sentence in sentences)
