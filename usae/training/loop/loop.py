"""Training of SAEs (stages `train` and `controls`): one pass over the data, any number of SAEs.

The result is a function of the activations, the params and the seed: an interrupted run that goes on from a
checkpoint ends in the same bits. What belongs to one of the SAEs is in `trainer.py`.
"""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from usae.activations.sampling import Batch, Loader, PairedActivations, Plan, Resident
from usae.activations.store.manifests import Manifest
from usae.common.errors import Diverged, Interrupted
from usae.common.params import Kernels, TrainParams
from usae.common.runtime.interrupts import Stop, graceful
from usae.common.runtime.progress import counter, progress
from usae.common.runtime.ranks import Ranks
from usae.common.runtime.tracker import Tracker
from usae.common.seeds import seed_of
from usae.common.variant import Variant
from usae.sae.estimator import Estimator
from usae.training.loop.checkpoints import Checkpoints, restore_rng, rng_state
from usae.training.loop.log import TrainingLog
from usae.training.loop.method import Start
from usae.training.loop.methods import new_method
from usae.training.loop.schedule import Schedule
from usae.training.loop.trainer import Trainer
from usae.training.start.clusters import clustered_tokens

SMALL_START = 1 << 24  # values that are clustered: such SAEs start side by side, several need less than 1 GiB
LOOK_EVERY = 20  # steps between two looks at the numbers on a GPU, which then has to hand them over
REMEDY = (
    "Lower `train.learning_rate`, or raise `train.warmup_epochs`; `usae store verify` says whether the activations"
    " are sound."
)


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out: nothing here changes its result, up to rounding on another device."""

    device: torch.device
    resident: Resident = "auto"
    checkpoints: Checkpoints | None = None
    curve: Path | None = None  # rewritten while the first SAE trains
    track: Tracker | None = None
    kernels: Kernels = "auto"


@dataclass(frozen=True)
class Result:
    """sae: trained, in eval mode. start: before its first step. log: one row a step (table `training`)."""

    sae: Estimator
    start: Estimator
    log: pd.DataFrame


def train(
    variants: Mapping[str, Variant],
    manifests: Mapping[str, Manifest],
    data: PairedActivations,
    params: TrainParams,
    options: RunOptions,
    *,
    seed: int,
    steps: int | None = None,
    halves: Sequence[np.ndarray] = (),
) -> dict[str, Result]:
    """Train an SAE per variant on its models, among those of `manifests`; `data` has their stores in that order.

    seed: of the order of the images. steps: stop there (None: all epochs); the schedule then ends there too.
    halves: the images of each half, increasing, for variants that see one alone; as many steps as the others.

    Raises:
        UserError: a batch is larger than the set, or a store is no longer readable.
        Diverged: a loss or a gradient is not finite, or the loss has run away; the checkpoints before stay.
        Interrupted: by SIGTERM or SIGINT; with checkpoints, the same call goes on where this one stopped.
    """
    prepared = prepare(variants, manifests, data, params, options, seed=seed, steps=steps, halves=halves)
    _run(prepared)
    members = prepared.trainers.members
    return {name: Result(one.method.finished(), one.start, one.log.frame()) for name, one in members.items()}


@dataclass(frozen=True)
class Prepared:
    """SAEs before their first step, and the batches of `steps` steps, by half (None: of all images)."""

    trainers: "Trainers"
    loaders: Mapping[int | None, Loader]
    steps: int


def prepare(
    variants: Mapping[str, Variant],
    manifests: Mapping[str, Manifest],
    data: PairedActivations,
    params: TrainParams,
    options: RunOptions,
    *,
    seed: int,
    steps: int | None = None,
    halves: Sequence[np.ndarray] = (),
) -> Prepared:
    """All that `train` does before the first step; each SAE with all threads, or a sum's last bits were others."""
    ranks = Ranks.current()
    plan = Plan(params.batch_images, seed, params.window_images, params.shuffle_tokens)
    epoch = math.ceil(data.images / params.batch_images)
    budget = Budget(params, epoch, params.epochs * epoch if steps is None else steps)
    loaders = {
        half: Loader(part, own_plan, options.device, options.resident, (ranks.rank, ranks.size))
        for half, (part, own_plan) in _parts(variants, data, plan, halves).items()
    }
    shown = next(iter(variants)) if ranks.rank == 0 else None

    def trainer(name: str) -> Trainer:
        variant = variants[name]
        models, schedule = variant.models or tuple(manifests), budget.schedule(variant)
        own, part = {model: manifests[model] for model in models}, loaders[variant.half].data.select(models)
        kept = options.checkpoints.folder / "starts" / name if options.checkpoints else None
        where = ranks, options.device, kept, options.kernels
        method = new_method(Start(variant, own, part, params, schedule, *where))
        log = TrainingLog(options.curve, track=options.track) if name == shown else TrainingLog()
        return Trainer(variant, models, method, log, schedule.steps)

    values = clustered_tokens(data.images * data.tokens, params.dictionary) * data.width
    workers = _side_by_side(options.device, ranks) if values <= SMALL_START else 1
    with ThreadPoolExecutor(workers, "start", torch.set_num_threads, (torch.get_num_threads(),)) as pool:
        coming = progress(pool.map(trainer, variants), total=len(variants), description="start", unit="SAE")
        trainers = dict(zip(variants, coming, strict=True))
    return Prepared(Trainers(trainers, ranks, options.device, options.checkpoints), loaders, budget.steps)


def _side_by_side(device: torch.device, ranks: Ranks) -> int:
    """How many SAEs are worked on at once: on a CPU of one's own, as many as torch has threads."""
    return torch.get_num_threads() if device.type == "cpu" and ranks.size == 1 else 1


@dataclass(frozen=True)
class Budget:
    """How long the run trains: `epoch`, steps in which its images are seen once, and steps in all."""

    params: TrainParams
    epoch: int
    steps: int

    def schedule(self, variant: Variant) -> Schedule:
        """A variant's own: of its share of the steps, its warm-up in proportion."""
        warmup, share = round(self.params.warmup_epochs * self.epoch), variant.share_of_steps
        rates = self.params.learning_rate, self.params.final_learning_rate
        return Schedule(*rates, math.ceil(warmup / share), math.ceil(self.steps / share))


class Trainers:
    """SAEs that are trained side by side, and where their common state is kept."""

    def __init__(
        self, members: dict[str, Trainer], ranks: Ranks, device: torch.device, checkpoints: Checkpoints | None
    ) -> None:
        self.members, self.ranks, self.device, self.checkpoints = members, ranks, device, checkpoints
        self.saved: int | None = None  # the step that the last checkpoint goes on with
        self.workers = min(_side_by_side(device, ranks), len(members))
        self._pool = ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,))

    def step(self, batches: Mapping[int | None, Batch]) -> None:
        """One update of every SAE, on the batch of its half (None: of all images).

        On a CPU they step side by side, a thread each: a step's products are too small to share one out.
        """
        steps = ((member, batches[member.variant.half]) for member in self.members.values())
        if self.workers == 1:
            for member, batch in steps:
                member.step(batch)
            return
        for done in [self._pool.submit(member.step, batch) for member, batch in steps]:
            done.result()

    def restore(self) -> int:
        """Go on from the last checkpoint, if there is one; returns the step to do next."""
        state = self.checkpoints.load() if self.checkpoints else None
        if state is None:
            return 0
        for name, member in self.members.items():
            member.restore(state["members"][name])
        restore_rng(state["rng"])
        self.saved = int(state["step"])
        return self.saved

    def looking(self, step: int) -> bool:
        """Whether to look after so many steps: now and then on a GPU, which has to wait for it."""
        return self.device.type != "cuda" or step % LOOK_EVERY == 0

    def look(self) -> None:
        """Log what was done since the last look (see `Trainer.look`).

        Raises:
            Diverged: it did, in one of them.
        """
        for member in self.members.values():
            try:
                member.look()
            except Diverged as error:
                raise Diverged(f"{error} {REMEDY} {self._kept()}") from None

    def show(self) -> None:
        """Bring curve and tracker up to date."""
        for member in self.members.values():
            member.log.show()

    def agreed(self, stop: Stop, step: int) -> tuple[bool, int]:
        """Whether to save now, and the signal to end with then (0: none): the same in all processes.

        A signal may reach one of them alone, and the others would wait for it. The first one's clock counts.
        """
        if self.ranks.size > 1 and not self.looking(step):
            return False, 0
        due = self.ranks.rank == 0 and self.checkpoints is not None and self.checkpoints.due()
        save, signal = self.ranks.highest([int(due), stop.signal], self.device)
        return bool(save or signal), signal

    def save(self, step: int) -> None:
        """Keep the state before `step`, once its numbers have been found good; no process goes on before that."""
        self.look()
        self.show()
        if self.checkpoints is None:
            return
        if self.ranks.rank == 0:
            members = {name: member.state() for name, member in self.members.items()}
            self.checkpoints.save({"step": step, "members": members, "rng": rng_state()})
        self.ranks.barrier()
        self.saved = step

    def _kept(self) -> str:
        if self.checkpoints is None or self.saved is None:
            return "There is no checkpoint from before."
        return f"The last good checkpoint, after {self.saved} steps, is kept in {self.checkpoints.folder}."


def _parts(
    variants: Mapping[str, Variant], data: PairedActivations, plan: Plan, halves: Sequence[np.ndarray]
) -> dict[int | None, tuple[PairedActivations, Plan]]:
    """Half (None: all images) -> its images, and an order of its own."""
    wanted: dict[int | None, set[str]] = {}
    for variant in variants.values():
        wanted.setdefault(variant.half, set()).update(variant.models or data.models)
    parts: dict[int | None, tuple[PairedActivations, Plan]] = {}
    for half, models in wanted.items():
        part = data if half is None else data.part(halves[half])
        part = part.select([model for model in data.models if model in models])
        seed = plan.seed if half is None else seed_of(plan.seed, "order of a half", half)
        size = plan.batch_images if half is None else min(plan.batch_images, part.images)
        parts[half] = part, replace(plan, seed=seed, batch_images=size)
    return parts


def _run(prepared: Prepared) -> None:
    """All steps that are left, with a checkpoint now and then."""
    trainers, loaders, steps = prepared.trainers, prepared.loaders, prepared.steps
    done, shown = trainers.restore(), trainers.ranks.rank == 0
    loader = next(iter(loaders.values()))
    sources = zip(*(each.batches(done, steps) for each in loaders.values()), strict=True)
    with counter(steps, description="train", unit="step", done=done, shown=shown) as bar, graceful() as stop:
        for batches in sources:
            trainers.step(dict(zip(loaders, batches, strict=True)))
            done += 1
            bar.update()
            if trainers.looking(done):
                trainers.look()
                _show(bar, trainers, loader)
            save, signal = trainers.agreed(stop, done)
            if save:
                trainers.save(done)
            if signal:
                raise Interrupted(done, signal)
        trainers.look()
        trainers.show()
        _show(bar, trainers, loader)


def _show(bar: "tqdm[None]", trainers: Trainers, loader: Loader) -> None:
    """Beside the bar: mean loss, cross R2, tokens per second, share of time spent waiting for data, best loss."""
    if bar.disable:
        return
    first = next(iter(trainers.members.values()))
    seconds = max(bar.format_dict["elapsed"], 1e-3)
    batch_tokens = loader.sampler.plan.batch_images * loader.data.tokens
    rate = (bar.n - bar.initial) * batch_tokens / seconds
    bar.set_postfix_str(
        f"loss {first.watch.mean:.3f}, cross R2 {first.r2_cross:.2f}, {rate:,.0f} tokens/s, "
        f"{loader.waited / seconds:.0%} waiting, best {first.watch.best:.3f}",
        refresh=False,
    )
