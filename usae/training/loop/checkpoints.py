"""Checkpoints: the state of an unfinished training run, so that the same command goes on where it stopped.

Stages `train` and `baselines` save one every `runtime.checkpoint_minutes` and on SIGTERM and SIGINT, and remove
them when their outputs are written. A kill or a power cut at any moment leaves one that loads.
docs/format.md ("Checkpoints") is the format.
"""

import contextlib
import io
import json
import logging
import os
import pickle
import random
import shutil
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from usae.common.errors import UserError
from usae.common.files.sealed import is_sealed, write_sealed
from usae.common.files.whole import PARTIAL

FORMAT = 2
KEPT = 2  # checkpoints; should the newest be damaged, the one before it still is there
PLAIN = {int, float, bool, str, type(None)}  # exactly: np.float64 is a float, but no file of plain values holds it

log = logging.getLogger("usae")


class Checkpoints:
    """The checkpoints of one run, in a folder of their own.

    identity: what has to be equal for a checkpoint to be of use; plain values, as JSON holds them.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], minutes: float) -> None:
        self.folder, self.minutes = folder, minutes
        self.identity = {"format": FORMAT, **identity}
        self.last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The newest whole state, its tensors on the CPU; None where there is no checkpoint.

        Raises:
            UserError: it is of another configuration (every difference is listed), or none is whole.
        """
        for partial in self.folder.glob(f"*{PARTIAL}"):
            partial.unlink(missing_ok=True)
        damaged: list[Path] = []
        for path in reversed(self._files()):
            if is_sealed(path):
                state = self._opened(path)
                self._discard(damaged, path)
                return state
            damaged.append(path)
        if damaged:
            raise UserError.listing(
                f"No checkpoint in {self.folder} is whole. `rm -r {self.folder}` lets the same command start from "
                "the beginning. These do not match their checksums:",
                map(str, damaged),
            )
        return None

    def due(self) -> bool:
        """Whether the last checkpoint (or the start) is `minutes` ago."""
        return time.monotonic() - self.last >= 60 * self.minutes

    def save(self, state: dict[str, Any]) -> None:
        """Add a checkpoint; those before the last one go when it is safely on disk.

        state: nested dicts, lists and tuples of tensors, numbers, strings and None.

        Raises:
            UserError: there is no room for it; the checkpoints that are there stay.
            TypeError: `state` holds something else.
        """
        if foreign := list(_foreign(state, "state")):
            raise TypeError(f"A checkpoint holds tensors and plain values only, found {', '.join(foreign)}.")
        buffer = io.BytesIO()
        torch.save({"identity": json.dumps(self.identity, sort_keys=True), "state": state}, buffer)
        number = max((int(path.stem) for path in self._files()), default=0) + 1
        write_sealed(self.folder / f"{number:06d}.state", np.frombuffer(buffer.getbuffer(), np.uint8))
        for folder in (self.folder, self.folder.parent):
            _sync(folder)
        for path in self._files()[:-KEPT]:
            path.unlink(missing_ok=True)
        self.last = time.monotonic()

    def clear(self) -> None:
        """Remove all; for when the run's outputs are written."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another run's are there
            self.folder.parent.rmdir()

    def _files(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.folder.glob("[0-9]*.state"), key=lambda path: int(path.stem))

    def _opened(self, path: Path) -> dict[str, Any]:
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError) as error:
            raise UserError(
                f"{path} holds no state of a run ({str(error).splitlines()[0]}) Nothing of it was run. "
                f"`rm -r {self.folder}` lets the same command start from the beginning."
            ) from error
        wanted, there = _flat(json.loads(json.dumps(self.identity))), _flat(json.loads(found["identity"]))
        keys = [key for key in {**wanted, **there} if wanted.get(key) != there.get(key)]
        if keys:
            raise UserError.listing(
                f"The checkpoint {path} is of another configuration. `rm -r {self.folder}` lets the same command "
                "start from the beginning; with the other configuration it goes on. They differ in",
                [f"`{key}`: expected {wanted.get(key, 'none')}, found {there.get(key, 'none')}" for key in keys],
            )
        state: dict[str, Any] = found["state"]
        return state

    def _discard(self, damaged: list[Path], whole: Path) -> None:
        for path in damaged:
            log.warning("%s does not match its checksum; going on from the one before, %s.", path, whole.name)
            path.unlink(missing_ok=True)


def rng_state() -> dict[str, Any]:
    """The states of the global generators of Python, NumPy and torch (CPU, and every CUDA device)."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys).tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_rng(state: dict[str, Any]) -> None:
    """Set what `rng_state` returned; the states of CUDA devices that are not here are left out."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    for device, generator in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(generator, device)


def _foreign(value: Any, where: str) -> Iterator[str]:
    """What `torch.load(weights_only=True)` would refuse, found before it is written."""
    if type(value) in (dict, OrderedDict):
        for key, item in value.items():
            yield from _foreign(key, f"key {key!r} of {where}")
            yield from _foreign(item, f"{where}.{key}")
    elif type(value) in (list, tuple):
        for item in value:
            yield from _foreign(item, f"{where}[]")
    elif type(value) not in PLAIN and not isinstance(value, Tensor):
        yield f"{where} ({type(value).__name__})"


def _flat(value: Any, key: str = "") -> dict[str, str]:
    """{'train.k': '16'}: nested mappings by dotted key, everything else as JSON."""
    if not isinstance(value, dict):
        return {key: json.dumps(value)}
    return {name: text for k, item in value.items() for name, text in _flat(item, f"{key}.{k}".strip(".")).items()}


def _sync(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
