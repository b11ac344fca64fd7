"""What training, encoding, contrasting and the disk take here, timed on a small run (`sample.py`)."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from usae.activations.sampling import open_paired
from usae.activations.store.manifests import SPLITS
from usae.common.params import TrainParams
from usae.common.types import Array
from usae.common.variant import Variant
from usae.evidence.codes.encoding import encode_split
from usae.evidence.metrics.contrast.measured import HeldOut
from usae.evidence.metrics.contrast.stability import HeldOutCodes, matched_concepts
from usae.sae.estimator import Concepts
from usae.showing.estimate.growth import Growth
from usae.showing.estimate.sample import Sample
from usae.training.loop.loop import Prepared, RunOptions, prepare
from usae.training.start.clusters import PER_CONCEPT, SAMPLE

MOST_STEPS, MOST_SECONDS = 20, 15.0  # of one group of SAEs; one step in 20 is scored (`Trainer`)
DISK_BYTES = 64 << 20

log = logging.getLogger("usae")


@dataclass(frozen=True)
class Disk:
    """Bytes a second."""

    write: float
    read: float


@dataclass(frozen=True)
class EvidenceSeconds:
    """encode: seconds an image, of one SAE and model. measured: of one SAE; counted: without its reconstructions;
    codes: kept for matching. match: seconds of one matching.
    """

    encode: float
    measured: Growth
    counted: Growth
    codes: Growth
    match: float


def step_seconds(sample: Sample, variants: Mapping[str, Variant]) -> float:
    """Seconds of a step of SAEs that are trained side by side; the reading of their batches included."""
    recipe = sample.params.train.model_copy(update={"init": "random"})
    prepared = _prepared(sample, variants, recipe)[0]
    loaders = prepared.loaders
    batches = zip(*(each.batches(0, MOST_STEPS + 1) for each in loaders.values()), strict=True)
    began = elapsed = 0.0
    for done, batch in enumerate(islice(batches, MOST_STEPS + 1)):
        prepared.trainers.step(dict(zip(loaders, batch, strict=True)))
        prepared.trainers.look()
        if done == 0:  # the first one warms up
            began = time.perf_counter()
            continue
        elapsed = (time.perf_counter() - began) / done
        if elapsed * done > MOST_SECONDS:
            break
    log.info("timed a step of %d SAEs (%s, ...): %.3f s", len(variants), next(iter(variants)), elapsed)
    return elapsed


def start_seconds(sample: Sample, variant: Variant, images: int) -> tuple[Concepts, float]:
    """An SAE before its first step, and the seconds until then in a run on so many images."""
    recipe = sample.params.train
    prepared, seconds = _prepared(sample, {"start": variant}, recipe)
    if recipe.init == "clusters":
        tokens = sample.params.extract.grid**2
        most = min(SAMPLE, PER_CONCEPT * recipe.dictionary)
        seconds *= min(most, images * tokens) / min(most, sample.images * tokens)
    log.info("timed the start of an SAE: %.1f s in the run", seconds)
    return prepared.trainers.members["start"].start, seconds


def evidence_seconds(sample: Sample, sae: Concepts) -> EvidenceSeconds:
    """Of the SAE on the small run's images; the few and the many of a `Growth` are its two splits."""
    manifests = {model: sample.manifests[model] for model in sample.params.models}
    stores = {split: {m: each.open(split, sample.root) for m, each in manifests.items()} for split in SPLITS}
    means = {model: np.array(each.channel_mean) for model, each in manifests.items()}
    measure, device = sample.params.measure, sample.device
    held_out = {s: HeldOut(sae, opened, measure, 0, device) for s, opened in stores.items()}
    threshold = measure.threshold

    def line(work: Callable[[str], object]) -> Growth:
        work("val")
        few, many = ((held_out[split].images, _timed(lambda s=split: work(s))) for split in ("val", "train"))  # type: ignore[misc]
        return Growth.through(few, many)

    def kept(split: str) -> HeldOutCodes:
        return HeldOutCodes.of(sae, stores[split], means, threshold, device)

    def all_images(split: str) -> Array:
        return np.arange(held_out[split].images)

    model = next(iter(manifests))
    out = sample.root / "codes" / model
    encode = _timed(lambda: encode_split(sae, model, stores["train"][model], out, "usae", None, device))
    codes = kept("train")
    found = EvidenceSeconds(
        encode / sample.images,
        line(lambda split: held_out[split].measured().numbers()),
        line(lambda split: held_out[split].counted(all_images(split), threshold)),
        line(kept),
        _timed(lambda: matched_concepts(codes, codes, threshold)),
    )
    log.info("timed evidence: %s", found)
    return found


def disk_rates(folder: Path) -> Disk:
    """Of the disk of `folder`: what is written is synced, what is read does not lie in memory."""
    path, block = folder / "disk", os.urandom(1 << 20)
    fd = os.open(path, os.O_CREAT | os.O_RDWR)
    try:
        write = _timed(lambda: _written(fd, block))
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.lseek(fd, 0, os.SEEK_SET)
        read = _timed(lambda: [os.read(fd, 1 << 20) for _ in range(DISK_BYTES >> 20)])
    finally:
        os.close(fd)
        path.unlink()
    return Disk(DISK_BYTES / write, DISK_BYTES / read)


def _written(fd: int, block: bytes) -> None:
    for _ in range(DISK_BYTES // len(block)):
        os.write(fd, block)
    os.fsync(fd)


def _prepared(sample: Sample, variants: Mapping[str, Variant], recipe: TrainParams) -> tuple[Prepared, float]:
    """SAEs before their first step, with as many steps as are timed, and the seconds until then."""
    names = {model for variant in variants.values() for model in variant.models or sample.params.models}
    manifests = {model: own for model, own in sample.manifests.items() if model in names}
    data = open_paired(manifests, sample.root)
    halves = [np.arange(offset, data.images, 2) for offset in range(2)]
    longest = max(variant.share_of_steps for variant in variants.values())
    options, began = RunOptions(sample.device, "never"), time.perf_counter()
    prepared = prepare(
        variants, manifests, data, recipe, options, seed=sample.params.seed, steps=(MOST_STEPS + 1) * longest,
        halves=halves,
    )  # fmt: skip
    return prepared, time.perf_counter() - began


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began
