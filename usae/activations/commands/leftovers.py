"""What runs have kept, checkpoints of unfinished ones and maximised pictures: `usae store list` shows it, `gc`
removes it."""

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd

from usae.activations.store.location import TRAINING
from usae.common.files.whole import size_text

NAME = re.compile(r"[a-z0-9][a-z0-9_-]*-[0-9a-f]{12}")
BUSY_MINUTES = 60.0  # a run that saved this recently may go on


@dataclass(frozen=True)
class Leftover:
    """The folder of one run. files: bytes. written: newest change."""

    path: Path
    files: int
    written: float

    def busy(self, now: datetime, checkpoint_minutes: float) -> bool:
        """Whether the run may be going on: within the hour, or two checkpoints, it was written to."""
        return now.timestamp() - self.written < 60 * max(BUSY_MINUTES, 2 * checkpoint_minutes)


def leftovers(root: Path) -> list[Leftover]:
    """The runs that have kept something below the store root, by name; links and anything else are left alone."""
    folders = sorted((root / TRAINING).glob("*"))
    return [_leftover(path) for path in folders if NAME.fullmatch(path.name) and _is_folder(path)]


def table(runs: list[Leftover]) -> str:
    """A row for each run."""
    rows = {
        "unfinished run": [run.path.name for run in runs],
        "kept": [size_text(run.files) for run in runs],
        "last saved": [f"{datetime.fromtimestamp(run.written):%Y-%m-%d %H:%M}" for run in runs],
    }
    return pd.DataFrame(rows).to_string(index=False)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _leftover(path: Path) -> Leftover:
    stats = [file.stat() for file in path.iterdir() if file.is_file()]
    written = max((stat.st_mtime for stat in stats), default=path.stat().st_mtime)
    return Leftover(path, sum(stat.st_size for stat in stats), written)
