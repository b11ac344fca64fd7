"""A small world: every stage on forty generated scenes and two tiny networks, each run a process of its own.

Processes are forked, so that imports are paid for once; the parent computes nothing.
"""

import importlib
import os
import re
import resource
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import torch._dynamo  # noqa: F401 - an optimiser loads it late: here once, not in every forked stage
import yaml

ROOT = Path(__file__).parents[2]
MODELS = ("one", "two")
BACKBONE = {
    "timm": "vit_tiny_patch16_224",
    "kwargs": {"img_size": 64, "patch_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 0},
    "weights": "random",
}
SETTINGS = {
    "images": {"train": 40, "val": 24},
    "extract": {"grid": 3, "chunk_images": 8, "statistics": "before"},
    "train": {"dictionary": 24, "levels": [8], "epochs": 2, "batch_images": 8},
    "encode": {"train_images": 16},
    "measure": {"permutations": 19},
    "methods": {"trained": ["sparc"], "fitted": ["linear", "kmeans"], "images": 16},
    "planted": {"seeds": 1, "train": 32, "val": 16, "dictionary": 98, "epochs": 1, "permutations": 9},
    "interventions": {"onboarding_images": [10]},
    "ood": {"most": 8},
    "maximise": {"rule": "energy", "concepts": 1, "steps": 2, "crops": 1, "size": 32, "random": 1},
    "report": {"concepts": 2, "unique": 1, "images": 3, "own_images": 1},
    "runtime": {"threads": 1, "checkpoint_minutes": 0, "store": "data/activations", "workers": 1, "device": "cpu"},
}


@dataclass(frozen=True)
class Stage:
    """One command: name, its arguments, and what it reads and writes, as paths below the world."""

    name: str
    arguments: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]

    @property
    def title(self) -> str:
        """As dvc names it."""
        return "@".join([self.name, *self.arguments])


STORE_COMMAND = "usae.activations.commands.store"
REPAIR = Stage("store", ("verify", "--repair"), (), ())  # no stage, but run like one


@dataclass(frozen=True)
class Child:
    """A stage that runs: its process, where it says something, and when it began."""

    pid: int
    output: int
    began: float


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its exit status (negative: the signal), what it said, how many seconds it took."""

    status: int
    text: str
    seconds: float


def settings() -> dict[str, object]:
    """`params.yaml` of the world."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params |= {"k": 3, "models": list(MODELS)}
    for section, values in SETTINGS.items():
        params[section] |= values
    wide = BACKBONE | {"kwargs": BACKBONE["kwargs"] | {"embed_dim": 32}}
    params["zoo"] = {
        "one": {"backbone": BACKBONE, "layer": -1, "norm": True},
        "two": {"backbone": wide, "layer": -1, "norm": True},
    }
    return params


def stages(names: Sequence[str]) -> list[Stage]:
    """The stages `names` of dvc.yaml, in order, one for each model where there is a matrix."""
    described = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return [_stage(name, described[name], each) for name in names for each in _matrix(described[name])]


def _matrix(described: dict[str, Any]) -> list[tuple[str, ...]]:
    over = {"model": MODELS, "method": ("sparc",)}
    return [(each,) for key in described.get("matrix", ()) for each in over[key]] or [()]


def _stage(name: str, described: dict[str, Any], arguments: tuple[str, ...]) -> Stage:
    def paths(*kinds: str) -> tuple[str, ...]:
        entries = [entry for kind in kinds for entry in described.get(kind, [])]
        names = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]
        named = [re.sub(r"\$\{item\.\w+\}", *arguments, path) if arguments else path for path in names]
        return tuple(path for path in named if path.startswith(("data/", "reports/")))

    stores = [f"data/activations/{split}" for split in _stores(name, arguments)]
    return Stage(name, arguments, (*paths("deps"), *stores), (*paths("outs", "metrics", "plots"), *stores))


def _stores(name: str, arguments: tuple[str, ...]) -> list[str]:
    """Beginnings of the names of the stores that a stage reads, or writes."""
    if name in ("extract", "untrained"):
        return [f"{'' if name == 'extract' else 'untrained-'}{arguments[0]}-"]
    reads = {"train": MODELS, "encode": MODELS, "measure": MODELS, "maximise": MODELS, "interventions": MODELS}
    both = (*MODELS, *(f"untrained-{model}" for model in MODELS))
    reads |= {"controls": both, "contrast": both, "onboarding": both, "methods": MODELS, "compare": both}
    return [f"{model}-" for model in reads.get(name, ())]


def make(folder: Path) -> None:
    """A world in which nothing has run."""
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(settings(), sort_keys=False))
    shutil.copy(ROOT / "dvc.yaml", folder)


def copied(source: Path, folder: Path) -> Path:
    """A copy of a world."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder, symlinks=True)
    return folder


def digests(folder: Path, paths: Sequence[str]) -> dict[str, str]:
    """SHA-256 of every file below `paths`, which may be beginnings of names; unfinished runs' state left out."""
    files = [file for file in folder.rglob("*") if file.is_file() and "training/" not in f"{file.parent}/"]
    names = {str(file.relative_to(folder)): file for file in files}
    chosen = {name: file for name, file in names.items() if name.startswith(tuple(paths))}
    return {name: sha256(file.read_bytes()).hexdigest() for name, file in chosen.items()}


def started(stage: Stage, folder: Path, most_bytes: int | None = None) -> Child:
    """A stage that runs in `folder`; most_bytes: the largest file that it may write."""
    module = importlib.import_module(f"pipeline.{stage.name}" if stage != REPAIR else STORE_COMMAND)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        _run(module, stage, folder, most_bytes, write)
    os.close(write)
    return Child(child, read, time.monotonic())


def finished(child: Child) -> Outcome:
    """Wait for a started stage."""
    with os.fdopen(child.output, errors="replace") as output:
        text = output.read()
    _, status = os.waitpid(child.pid, 0)
    return Outcome(os.waitstatus_to_exitcode(status), text, time.monotonic() - child.began)


def run(stage: Stage, folder: Path, most_bytes: int | None = None) -> Outcome:
    """One run from start to end."""
    return finished(started(stage, folder, most_bytes))


def _run(module: ModuleType, stage: Stage, folder: Path, most_bytes: int | None, output: int) -> None:
    """In the child: never returns."""
    status = 1
    os.dup2(output, 1), os.dup2(output, 2)
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(folder)
        for name in ("USAE_STORE", "DVC_ROOT", "USAE_VERIFY"):
            os.environ.pop(name, None)
        sys.argv = [stage.name, *stage.arguments]
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))
        status = module.main(stage.arguments) if stage == REPAIR else module.main() or 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
        os.write(2, f"{'' if isinstance(end.code, int) else end.code}\n".encode(errors="backslashreplace"))
    except BaseException as error:  # noqa: BLE001 - as the interpreter does at its end
        status = 130 if isinstance(error, KeyboardInterrupt) else 1
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)
