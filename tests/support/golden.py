"""Reference arrays of the authors' code: the small sets beside the tests, and those in the folder `$USAE_GOLDEN`.

A set is `NAME_inputs.npz` with `NAME_outputs.npz` (a training run), or `NAME_metrics.npz` (metrics of given
codes); tests/golden/README.md says what is in them.
"""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

Arrays = dict[str, np.ndarray]
SMALL = Path(__file__).parents[1] / "golden"
FOLDERS = [SMALL, *(Path(folder) for folder in [os.environ.get("USAE_GOLDEN")] if folder)]


def arrays(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def ends(name: str) -> list[Path]:
    """The files `*_NAME.npz` of all folders."""
    return [path for folder in FOLDERS for path in sorted(folder.glob(f"*_{name}.npz"))]


@dataclass(frozen=True)
class TrainingSet:
    """A training run of the authors' code: what it was given, and what came out."""

    path: Path  # of the inputs

    @cached_property
    def inputs(self) -> Arrays:
        return arrays(self.path)

    @cached_property
    def outputs(self) -> Arrays:
        return arrays(self.path.with_name(self.path.name.replace("_inputs", "_outputs")))

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(str(model) for model in self.inputs["models"])

    @property
    def concepts(self) -> int:
        return int(self.inputs["nb_components"])

    @property
    def k(self) -> int:
        return int(self.inputs["top_k"])

    @property
    def steps(self) -> int:
        return len(self.inputs["order"])


def training_sets() -> list[TrainingSet]:
    return [TrainingSet(path) for path in ends("inputs")]


def is_small(path: Path) -> bool:
    """Whether the file is one of those beside the tests."""
    return path.parent == SMALL
