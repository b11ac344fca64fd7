"""From two small runs to what each stage takes: its fixed part, and for each image, step or picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from usae.common.methods import UNIVERSAL
from usae.common.params import Params
from usae.common.types import Array
from usae.common.variant import Variant
from usae.evidence.controls.names import RUN
from usae.evidence.controls.variants import controls, independent
from usae.evidence.onboarding.run import dictionaries
from usae.methods.runs.variants import method_runs
from usae.showing.estimate.clocks import Cost
from usae.showing.estimate.growth import Growth
from usae.showing.estimate.passes import IMAGE
from usae.showing.estimate.rehearsal import all_stages
from usae.showing.estimate.small import Sizes, SmallRun
from usae.showing.estimate.starts import START, start_tokens
from usae.training.portion import Portion, control_portion, run_portion

STATE_BYTES = 16  # a parameter: itself, its gradient, and two moments of AdamW
READING = ("extract", "untrained")
JOINING = "onboarding"  # trains few steps in a small run and fits much: its steps take what those of `train` do


@dataclass(frozen=True)
class Training:
    """SAEs that are trained in one pass: the stage, their variants, and what they learn from."""

    stage: str
    variants: Mapping[str, Variant]
    portion: Portion

    def images(self, sizes: Sizes) -> int:
        """Training images that they see."""
        return min(self.portion.images or sizes.train, sizes.train)

    def steps(self, params: Params, sizes: Sizes) -> int:
        """Steps of the run."""
        return self.portion.epochs * -(-self.images(sizes) // params.train.batch_images)

    def sae_steps(self, params: Params, sizes: Sizes) -> float:
        """Steps of all SAEs; those of fewer models count for less."""
        steps, models = self.steps(params, sizes), len(params.models)
        return sum(
            steps // v.share_of_steps * len(v.models or params.models) / models for v in self.variants.values()
        )

    def starts(self, params: Params) -> float:
        """How many SAEs start as the universal one does, likewise."""
        own = [each for each in self.variants.values() if each.method == UNIVERSAL]
        return sum(len(each.models or params.models) for each in own) / len(params.models)

    def waits(self, params: Params, sizes: Sizes, read: float, memory: int) -> float:
        """Seconds that all epochs read, at `read` bytes a second; 0 where `memory` bytes keep what was read."""
        need = self.read(params, sizes)
        return self.portion.epochs * need / read if need > memory else 0.0

    def models(self, params: Params) -> int:
        """Models that are encoded, over all SAEs."""
        return sum(len(each.models or params.models) for each in self.variants.values())

    def read(self, params: Params, sizes: Sizes) -> int:
        """Bytes that an epoch reads: every store once, and once more where there are halves."""
        names = {name for each in self.variants.values() for name in each.models or params.models}
        width = sum(sizes.widths[name.removeprefix("untrained-")] for name in names) / sum(sizes.widths.values())
        passes = 1 + any(each.half is not None for each in self.variants.values())
        return round(passes * self.images(sizes) * width * sizes.image_bytes(params))


@dataclass(frozen=True)
class StageCost:
    """What one stage takes. does: what it does, in numbers."""

    stage: str
    cost: Cost
    does: str

    @property
    def seconds(self) -> float:
        """Of wall time."""
        return self.cost.wall

    @property
    def disk(self) -> int:
        """Bytes that it writes."""
        return round(self.cost.disk)


def trainings(params: Params, images: int) -> list[Training]:
    """All that trains SAEs, in the order of the stages; images: training images that there are."""
    run, models = run_portion(params), params.models
    less = control_portion(params, run)
    found = [Training("train", {RUN: Variant(params.k, params.seed, params.train.pairs, models)}, run)]
    if params.quick:
        return found
    found.append(Training("controls", controls(params, images) | independent(params), less))
    if len(models) > 1:
        old = tuple(model for model in models if model != (params.interventions.held_out or models[-1]))
        named = {name: _of(each, old) for name, each in dictionaries(params).items()}
        found.append(Training("onboarding", named, less))
    for method in params.methods.trained:
        runs = method_runs(params, method, images).items()
        found += [Training(f"methods@{method}", variants, portion) for portion, variants in runs]
    return found


def count(stage: str, params: Params, sizes: Sizes) -> tuple[float, str]:
    """How much a stage has to do, and of what; 0 where no number of images, steps or pictures changes it."""
    if stage != JOINING and (steps := sae_steps(stage, params, sizes)):
        return steps, "SAE steps"
    images = sizes.train + sizes.val
    return {
        START: (start_tokens(params, sizes.train), "tokens"),
        "images": (images, "images"),
        "extract": (images, "images"),
        "untrained": (min(params.controls.images or sizes.train, sizes.train) + sizes.val, "images"),
        "encode": (min(params.encode.train_images, sizes.train) + sizes.val, "images"),
        "contrast": (sizes.val, "images"),
        "measure": (images, "images"),
        "ood": (min(params.ood.most, sizes.val), "images"),
        "interventions": (min(params.interventions.readout_images, sizes.train) + sizes.val, "images"),
        "onboarding": (min(max(params.interventions.onboarding_images), sizes.train) + sizes.val, "images"),
        "compare": (sizes.val, "images"),
        "planted": (params.planted.seeds, "worlds"),
        "maximise": (params.maximise.steps, "steps"),
    }.get(stage.partition("@")[0], (0, ""))


def sae_steps(stage: str, params: Params, sizes: Sizes) -> float:
    """Steps of all SAEs that a stage trains."""
    return sum(each.sae_steps(params, sizes) for each in trainings(params, sizes.train) if each.stage == stage)


def growth(stage: str, runs: Sequence[SmallRun]) -> Growth:
    """The line through what a stage took in the small runs, steps left out that are not what is counted; where it
    reads images and one was timed alone, by that.
    """
    points = [
        (
            count(stage, run.params, run.sizes)[0],
            np.maximum(0.0, run.costs[stage] - steps_cost(stage, run.params, run.sizes, runs)),
        )
        for run in runs
        if stage in run.costs
    ]
    line, (name, _, model) = Growth.through(points[0], points[-1]), stage.partition("@")
    timed = runs[-1].costs.get(f"{IMAGE}@{model}") if name in READING else None
    return line if timed is None else Growth.at_rate(np.array([*timed[:2], line.each[2]]), points[-1])


def steps_cost(stage: str, params: Params, sizes: Sizes, runs: Sequence[SmallRun]) -> Array:
    """What SAE steps take that are not what is counted of a stage, as `train` tells; nothing in other stages."""
    if stage != JOINING:
        return np.zeros(3)
    return growth("train", runs).each * (1, 1, 0) * sae_steps(stage, params, sizes)


def stage_costs(
    params: Params, sizes: Sizes, runs: Sequence[SmallRun], python: Cost, read: float, memory: int
) -> list[StageCost]:
    """Of every stage. runs: the smaller and the larger one. python: until a stage is imported.

    read: bytes a second from the disk. memory: bytes that may keep activations that were read.
    """
    clusters = params.train.init == "clusters"
    start = growth(START, runs).at(count(START, params, sizes)[0]) if clusters else np.zeros(3)
    trained = trainings(params, sizes.train)
    found = []
    for stage in all_stages(params):
        amount, noun = count(stage, params, sizes)
        line, own = growth(stage, runs), [each for each in trained if each.stage == stage]
        steps = steps_cost(stage, params, sizes, runs)
        cost = np.array(python) + line.at(amount) + steps + start * sum(each.starts(params) for each in own)
        waits = sum(each.waits(params, sizes, read, memory) for each in own)
        rate = f"{1 / line.each[0]:.3g} a second" if line.each[0] > 0 else "no time of their own"
        does = f"{python.wall + line.fixed[0]:.1f} s" + (f" + {amount:.0f} {noun}, {rate}" if amount else "")
        does += f" + {steps[0]:.1f} s of SAE steps" if own and stage == JOINING else ""
        does += ", waits for the disk" if waits > cost[0] else ""
        found.append(StageCost(stage, Cost(max(cost[0], waits), *cost[1:]), does))
    return found


def _of(variant: Variant, models: tuple[str, ...]) -> Variant:
    values: dict[str, Any] = {**variant.__dict__, "models": models}
    return Variant(**values)
