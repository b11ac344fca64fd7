"""Small disks: a folder lies on a file system of its own, which only root on Linux can mount."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

PAGE = 4096  # bytes: what a file takes is a multiple of it


@contextmanager
def on_small_disk(folder: Path, room: int, read_only: bool) -> Iterator[None]:
    """In here `folder` has so many bytes of room beside what lies there; afterwards it is as it was before."""
    folder.mkdir(parents=True, exist_ok=True)
    held = sum(-(-file.stat().st_size // PAGE) for file in folder.rglob("*") if file.is_file())
    with TemporaryDirectory(dir=folder.parent) as kept:
        shutil.copytree(folder, kept, symlinks=True, dirs_exist_ok=True)
        _mount("-t", "tmpfs", "-o", f"size={PAGE * (held + 1) + room}", "tmpfs", str(folder))
        try:
            shutil.copytree(kept, folder, symlinks=True, dirs_exist_ok=True)
            if read_only:
                _mount("-o", "remount,ro", str(folder))
            yield
        finally:
            subprocess.run(["umount", str(folder)], check=True)


@cache
def can_mount() -> bool:
    """Whether this process may mount a disk."""
    if os.geteuid() or not shutil.which("mount"):
        return False
    with TemporaryDirectory() as folder:
        try:
            with on_small_disk(Path(folder) / "disk", 0, read_only=True):
                return True
        except subprocess.CalledProcessError:
            return False


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)
