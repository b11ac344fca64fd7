"""From what was timed to hours and disk of each stage: plain sums over what the run asks for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from usae.activations.store.manifests import SPLITS
from usae.common.params import Params
from usae.common.variant import Variant
from usae.evidence.controls.names import HALF, RUN, SEED, TWIN
from usae.evidence.controls.variants import controls, independent
from usae.evidence.metrics.contrast.sensitivity import FIRING
from usae.evidence.metrics.contrast.stability import MATCHED_IMAGES
from usae.evidence.onboarding.run import dictionaries
from usae.methods.runs.variants import method_runs
from usae.showing.estimate.growth import Growth
from usae.showing.estimate.rates import Disk, EvidenceSeconds
from usae.training.portion import Portion, control_portion, run_portion

LEFT_OUT = "weights, measure, ood, interventions, planted, compare, maximise, report"
STATE_BYTES = 16  # a parameter: itself, its gradient, and two moments of AdamW


@dataclass(frozen=True)
class Sizes:
    """What there will be: images of both splits, and the width of every model."""

    train: int
    val: int
    widths: Mapping[str, int]

    def image_bytes(self, params: Params, models: Sequence[str] | None = None) -> int:
        """Activations of one image, of these models (None: all) together."""
        width = sum(self.widths[model] for model in models or self.widths)
        return params.extract.grid**2 * width * np.dtype(params.extract.dtype).itemsize


@dataclass(frozen=True)
class Training:
    """SAEs that are trained in one pass: the stage, their variants, and what they learn from."""

    stage: str
    variants: Mapping[str, Variant]
    portion: Portion

    @property
    def groups(self) -> dict[int, dict[str, Variant]]:
        """Those of one share of the steps, by share."""
        shares = sorted({each.share_of_steps for each in self.variants.values()})
        return {s: {n: v for n, v in self.variants.items() if v.share_of_steps == s} for s in shares}

    def images(self, sizes: Sizes) -> int:
        """Training images that they see."""
        return min(self.portion.images or sizes.train, sizes.train)

    def steps(self, params: Params, sizes: Sizes) -> int:
        """Steps of the run."""
        return self.portion.epochs * -(-self.images(sizes) // params.train.batch_images)

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
class Rates:
    """All that was timed. steps: by stage and share of the steps. start: of the universal SAE."""

    picture: float
    extract: Mapping[str, Growth]
    steps: Mapping[tuple[str, int], float]
    start: float
    evidence: EvidenceSeconds
    disk: Disk


@dataclass(frozen=True)
class StageCost:
    """Seconds and bytes on disk of one stage. does: what it does, in numbers."""

    stage: str
    seconds: float
    disk: int
    does: str


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
        runs = method_runs(params, method, images)
        names = (f"methods@{method}", f"methods@{method}, controls")
        found += [Training(name, *each[::-1]) for name, each in zip(names, runs.items(), strict=False)]
    return found


def stage_costs(params: Params, sizes: Sizes, rates: Rates, memory: int) -> list[StageCost]:
    """Of every stage that is estimated; memory: bytes that may keep activations that were read."""
    return [
        StageCost("images", rates.picture * (sizes.train + sizes.val), 0, f"{sizes.train} + {sizes.val} images"),
        *_extractions(params, sizes, rates),
        *(_training(each, params, sizes, rates, memory) for each in trainings(params, sizes.train)),
        *_evidence(params, sizes, rates),
    ]


def _extractions(params: Params, sizes: Sizes, rates: Rates) -> Iterator[StageCost]:
    few = min(params.controls.images or sizes.train, sizes.train)
    for stage, train in (("extract", sizes.train), ("untrained", few)):
        for model, seconds in rates.extract.items():
            images = train + sizes.val
            disk = images * sizes.image_bytes(params, [model])
            does = f"{1 / seconds.image:.1f} images a second"
            yield StageCost(f"{stage}@{model}", seconds.at(images), disk, does)


def _training(each: Training, params: Params, sizes: Sizes, rates: Rates, memory: int) -> StageCost:
    steps, read = each.steps(params, sizes), each.read(params, sizes)
    seconds = sum(steps / share * rates.steps[each.stage, share] for share in each.groups)
    from_disk = each.portion.epochs * read / rates.disk.read if read > memory else 0.0
    start = rates.start * each.models(params) / len(params.models)
    parameters = params.train.dictionary * sum(sizes.widths.values()) * 2
    disk = 2 * 4 * parameters * each.models(params) // len(params.models)
    waits = ", waits for the disk" if from_disk > seconds else ""
    does = f"{len(each.variants)} SAE{'s' if len(each.variants) > 1 else ''}, {steps} steps{waits}"
    return StageCost(each.stage, start + max(seconds, from_disk), disk, does)


def _evidence(params: Params, sizes: Sizes, rates: Rates) -> Iterator[StageCost]:
    timed, all_controls = rates.evidence, controls(params, sizes.train)
    kinds = len({name.partition("-")[0] for name in independent(params)})
    encoders = 2 + (TWIN in all_controls) + kinds
    images = (sizes.val + min(params.encode.train_images, sizes.train)) * len(params.models) * encoders
    code_bytes = params.extract.grid**2 * params.k * (2 + 4)
    does = f"{encoders} SAEs of {len(SPLITS)} splits"
    yield StageCost("encode", images * timed.encode, images * code_bytes, does)
    again = [name for name in all_controls if name.startswith((SEED, HALF))]
    subjects = 1 + (TWIN in all_controls)
    pairs = subjects * len(again) + 1
    val, half = sizes.val, sizes.val / 2
    seconds = 2 * (len(all_controls) + 1) * timed.measured.at(val)
    seconds += 2 * (len(FIRING) * timed.counted.at(val) + 2 * timed.counted.at(half))
    seconds += 2 * ((subjects + len(again)) * timed.codes.at(min(val, MATCHED_IMAGES)) + pairs * timed.match)
    yield StageCost("contrast", seconds, 0, f"{len(all_controls) + 1} SAEs, before and after training")


def _of(variant: Variant, models: tuple[str, ...]) -> Variant:
    values: dict[str, Any] = {**variant.__dict__, "models": models}
    return Variant(**values)
