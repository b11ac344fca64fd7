"""What a run will cost on this machine: two small runs are timed, the rest is counted (`usae estimate`)."""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from usae.activations.store import store_root
from usae.common.errors import UserError
from usae.common.files.whole import free_bytes, size_text
from usae.common.layout import Layout
from usae.common.params import Params
from usae.common.runtime.device import configure
from usae.images.survey import survey
from usae.showing.estimate.disk import read_rate
from usae.showing.estimate.fits import Machine, machine, resident, training_bytes, verdicts
from usae.showing.estimate.passes import IMAGE
from usae.showing.estimate.small import MANY, PASSES, Sizes, SmallRun, more_passes, python_cost, shrunk
from usae.showing.estimate.stages import StageCost, Training, stage_costs, trainings
from usae.showing.estimate.starts import START

HOUR = 3600

log = logging.getLogger("usae")


@dataclass(frozen=True)
class CostEstimate:
    """Every stage's cost, and the machine that it was timed on."""

    params: Params
    sizes: Sizes
    costs: Sequence[StageCost]
    trained: Sequence[Training]
    machine: Machine
    device: torch.device

    @property
    def seconds(self) -> float:
        """Of all stages, one after another."""
        return sum(each.seconds for each in self.costs)

    @property
    def cpu(self) -> float:
        """Seconds of the CPU, all processors together."""
        return sum(each.cost.cpu for each in self.costs)

    @property
    def disk(self) -> int:
        """Bytes that they write."""
        return sum(cost.disk for cost in self.costs)

    def lines(self) -> list[str]:
        """The estimate as a user reads it."""
        width = max(len(cost.stage) for cost in self.costs)
        rows = [_row(width, each.stage, *each.cost, each.does) for each in self.costs]
        total = _row(width, "total", self.seconds, self.cpu, self.disk, f"on {self.device}")
        head = f"{'':{width}}  {'time':>10}  {'CPU time':>10}  {'disk':>8}"
        return [head, *rows, total, *self.share(), *self.memory(), *self.faults()]

    def share(self) -> list[str]:
        """What everything costs beside the features and the one universal SAE, in time and in stores."""
        least = [c for c in self.costs if c.stage.startswith(("images", "extract")) or c.stage == "train"]
        times = self.seconds / sum(cost.seconds for cost in least)
        stores = [c for c in self.costs if c.stage.startswith(("extract", "untrained"))]
        own = sum(cost.disk for cost in stores if cost.stage.startswith("extract"))
        return [
            f"all of this: {times:.2f} times the time of the features and the one SAE, "
            f"{sum(cost.disk for cost in stores) / own:.2f} times the features' disk"
        ]

    def memory(self) -> list[str]:
        """What each training run keeps in memory, and where its activations lie."""
        found = []
        for each in self.trained:
            state, batches = training_bytes(each, self.params, self.sizes)
            where = resident(each, self.params, self.sizes, self.machine)
            read = size_text(each.read(self.params, self.sizes))
            found.append(
                f"{each.stage}: {size_text(state)} for {len(each.variants)} SAEs and a step, {size_text(batches)} "
                f"of batches in memory; an epoch reads {read}, {where}"
            )
        return found

    def faults(self) -> list[str]:
        """What does not fit."""
        wrong = verdicts(self.params, self.sizes, self.costs, self.trained, self.machine)
        return [f"DOES NOT FIT: {sentence}" for sentence in wrong] or ["It fits."]


def estimate(params: Params, train: int | None = None, val: int | None = None) -> CostEstimate:
    """The estimate of a run; train, val: images that there will be (None: as many as there are).

    Raises:
        UserError: there are no images yet and nobody says how many, or a network cannot be built.
    """
    device, root = configure(params.runtime), store_root(params.runtime.store)
    counts = _counts(params, train, val)
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".estimate-") as scratch:
        few, many = rehearsals(params, counts, Path(scratch).absolute())
        read = read_rate(Path(scratch))
    sizes, here = Sizes(*counts, many.sizes.widths), machine(free_bytes(root.absolute()), device)
    costs = stage_costs(params, sizes, (few, many), python_cost(), read, here.memory)
    return CostEstimate(params, sizes, costs, trainings(params, sizes.train), here, device)


def rehearsals(params: Params, counts: tuple[int, int], scratch: Path) -> tuple[SmallRun, SmallRun]:
    """The smaller and the larger of two small runs, in folders of `scratch`.

    What takes as long in both is in one of them: networks' weights in the smaller one, the report and what one
    image takes in the larger one.
    """
    start = [] if params.train.init == "clusters" else [START]
    timed = [f"{IMAGE}@{model}" for model in params.models]
    own = shrunk(params, counts, 1, PASSES[0])
    few = SmallRun.rehearsed(own, scratch / "few", [*start, *timed, "report"])
    weights = [f"weights@{model}" for model in params.models]
    own = shrunk(params, counts, MANY, more_passes(few))
    many = SmallRun.rehearsed(own, scratch / "many", [*start, *weights], Layout(scratch / "few").weights)
    return few, many


def duration(seconds: float) -> str:
    """'42 s', '7.5 min', '31 h'."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 1.5 * HOUR else f"{seconds / HOUR:.1f} h"


def _counts(params: Params, train: int | None, val: int | None) -> tuple[int, int]:
    if train is not None and val is not None:
        return train, val
    try:
        there = survey(params.images).sizes
    except UserError as error:
        raise UserError(f"{error} Or say how many there will be: --train N --val N.") from error
    return train or there["train"], val or there["val"]


def _row(width: int, name: str, wall: float, cpu: float, disk: float, does: str) -> str:
    return f"{name:{width}}  {duration(wall):>10}  {duration(cpu):>10}  {size_text(round(disk)):>8}  {does}"
