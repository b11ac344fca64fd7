"""Looks after the activation stores, and what unfinished runs have kept, below `runtime.store` (or
$USAE_STORE); run it from the repository's root.

usae store list
usae store verify [PATH ...] [--quick] [--repair]
usae store gc [--remove]
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pandas as pd

from usae.activations.commands.catalogue import Entry, entries, read_manifests, unnamed
from usae.activations.commands.leftovers import Leftover, leftovers
from usae.activations.commands.leftovers import table as leftover_table
from usae.activations.commands.verification import StoreFault, targets, verify
from usae.activations.store import store_root
from usae.activations.store.manifests import remedy
from usae.common.errors import UserError
from usae.common.files.whole import size_text
from usae.common.layout import Layout
from usae.common.params import load_params

MANIFESTS = (Layout().manifests, Layout().untrained)
UNKNOWN = (
    "Only the manifests now in data/manifests and data/untrained count. Those of other commits, branches, "
    "experiments, and checkouts that share this root, are not known: their stores count as unnamed too, and have "
    "to be extracted again where they are wanted."
)
UNFINISHED = "A run starts from the beginning when what it has kept is removed."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when all is well, 1 when faults were found or nothing could be done."""
    given = _parser().parse_args(arguments)
    try:
        return int(given.run(given))
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def list_stores(_: argparse.Namespace) -> int:
    """Every store below the root, the manifest that names it, and when it was last used; unfinished runs."""
    root = _root()
    stores, runs = entries(root, read_manifests(MANIFESTS)), leftovers(root)
    _say(_table(stores) if stores else f"There are no activation stores below {root}.")
    _say(f"{len(stores)} stores, {size_text(sum(entry.files for entry in stores))} below {root}" if stores else "")
    _say(f"\n{leftover_table(runs)}" if runs else "")
    return 0


def verify_stores(given: argparse.Namespace) -> int:
    """Every fault of the chosen stores with the command that repairs it; status 1 when there are any."""
    manifests = read_manifests(MANIFESTS)
    faults: list[StoreFault] = []
    for target in targets(given.paths, manifests, Path() if given.paths else _root()):
        of_store = list(verify(target, deep=not given.quick))
        _say(
            f"{target.path}: {_count(len(of_store), 'fault') if of_store else 'whole' if given.quick else 'sound'}"
        )
        for each in of_store:
            _say(f"  - {each.fault}\n    {each.command}")
        if of_store and target.manifest is None:
            _say(
                f"    (No manifest names this store. The command extracts what params.yaml says now for "
                f"'{target.model}'; if that is something else, `usae store gc` removes this store.)"
            )
        faults += of_store
    if given.repair and faults:
        _say(_repair([each.fault.damaged for each in faults if each.fault.damaged]))
        _say(
            "Now run:\n" + "\n".join(f"  {remedy(m)}" for m in dict.fromkeys(each.target.model for each in faults))
        )
    return 1 if faults else 0


def collect_garbage(given: argparse.Namespace) -> int:
    """Lists the stores that no manifest names and unfinished runs, and with --remove deletes them."""
    root, manifests, runtime = _root(), read_manifests(MANIFESTS), load_params().runtime
    stores, runs, now = unnamed(entries(root, manifests), datetime.now()), leftovers(root), datetime.now()
    old = [run for run in runs if not run.busy(now, runtime.checkpoint_minutes)]
    _say(UNKNOWN + "\n")
    for entry, reason in stores.kept:
        _say(f"kept {entry.path.name}: {reason}")
    for run in (run for run in runs if run not in old):
        _say(f"kept {run.path.name}: it was written to a short while ago; the run may be going on")
    if not stores.removable and not old:
        _say(f"Nothing to remove below {root}.")
        return 0
    _say(_table(stores.removable) if stores.removable else "")
    _say(f"{leftover_table(old)}\n{UNFINISHED}" if old else "")
    total = _total(stores.removable, old)
    if not given.remove:
        _say(f"{total}. Nothing was removed; do it with: usae store gc --remove")
        return 0
    if stores.removable and not manifests:
        raise UserError(
            "Nothing was removed: there is no manifest in data/manifests, so every store looks unnamed. Bring "
            "them back (`dvc checkout`, `dvc pull extract` or `dvc repro extract`), or remove folders yourself."
        )
    for path in [*(entry.path for entry in stores.removable), *(run.path for run in old)]:
        shutil.rmtree(path)
    _say(f"Removed {total}.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="usae store", description="Look after the activation stores.")
    commands = parser.add_subparsers(required=True, metavar="list | verify | gc")
    listing = commands.add_parser("list", help="every store, and unfinished runs", description=list_stores.__doc__)
    listing.set_defaults(run=list_stores)
    check = commands.add_parser("verify", help="check stores", description=verify_stores.__doc__)
    check.add_argument(
        "paths", nargs="*", type=Path, metavar="PATH", help="stores (default: all that manifests name)"
    )
    depth = check.add_mutually_exclusive_group()
    depth.add_argument("--deep", action="store_true", help="read every byte, compare checksums (the default)")
    depth.add_argument("--quick", action="store_true", help="sizes and the manifests' checksums only")
    check.add_argument(
        "--repair", action="store_true", help="remove damaged files, so that extract writes them anew"
    )
    check.set_defaults(run=verify_stores)
    garbage = commands.add_parser(
        "gc", help="stores that no manifest names, and unfinished runs", description=collect_garbage.__doc__
    )
    garbage.add_argument("--remove", action="store_true", help="delete them")
    garbage.set_defaults(run=collect_garbage)
    return parser


def _table(stores: Sequence[Entry]) -> str:
    rows = {
        "store": [entry.path.name for entry in stores],
        "model": [entry.model for entry in stores],
        "split": [entry.split for entry in stores],
        "images": [str(entry.store.images) if entry.store else "?" for entry in stores],
        "size": [size_text(entry.files) for entry in stores],
        "state": [entry.state for entry in stores],
        "manifest": [", ".join(entry.manifests) or "none" for entry in stores],
        "last used": [
            f"{datetime.fromtimestamp(entry.used):%Y-%m-%d}" if entry.used else "never" for entry in stores
        ],
    }
    return pd.DataFrame(rows).to_string(index=False)


def _total(stores: Sequence[Entry], runs: Sequence[Leftover]) -> str:
    counts = [(len(stores), "store"), (len(runs), "unfinished run")]
    size = sum(entry.files for entry in stores) + sum(run.files for run in runs)
    return f"{' and '.join(_count(count, noun) for count, noun in counts if count)}, {size_text(size)}"


def _repair(damaged: Sequence[Path]) -> str:
    for path in damaged:
        path.unlink()
    return f"Removed {_count(len(damaged), 'damaged file')}."


def _root() -> Path:
    return store_root(load_params().runtime.store)


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n" if text else "")
