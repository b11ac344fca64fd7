"""How many images does a new model need to speak the concepts of a finished universal SAE? (table `onboarding`)

The SAE of the old models is frozen. On the first n training images the newcomer gets an encoder and a dictionary
(`newcomer.py`), which are evaluated on all held-out images. It is compared with a newcomer that was fitted on
re-paired images, with one whose network has random weights, and with the best linear maps from as many images.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from usae.activations.store import ActivationStore, image_spans
from usae.activations.store.manifests import SPLITS, Manifest
from usae.common.numerics.ridge import VALIDATION, Products, ridge_r2
from usae.common.params import TrainParams
from usae.common.runtime.progress import progress
from usae.common.types import Array, Pair
from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.firing.counts import FiringCounts, lift
from usae.evidence.metrics.reconstruction.passes import features
from usae.evidence.metrics.reconstruction.r2 import Reconstruction, r2
from usae.evidence.onboarding.newcomer import ROWS, Newcomer, PairedSums, concatenated, fit_newcomers, matrix
from usae.sae.sparse import SparseCodes
from usae.sae.universal import UniversalSAE
from usae.training.start import set_statistics

BLOCK_IMAGES = 50
MATCHED, SHUFFLED, UNTRAINED = "matched", "shuffled", "untrained"


@dataclass(frozen=True)
class Setup:
    """The frozen SAE of the old models, and the activations of all models, the newcomer's first.

    statistics: an SAE of all models that is not trained; only the means and standard deviations in it are used.
    origins: (d,) the channels' means, standardised, by model. Sums are taken about them: the variance of channels
    that hardly vary, as random networks have some, would drown in the rounding of squares.
    """

    frozen: UniversalSAE
    statistics: UniversalSAE
    origins: Mapping[str, Array]
    train: Mapping[str, ActivationStore]
    val: Mapping[str, ActivationStore]

    @property
    def models(self) -> tuple[str, ...]:
        """The newcomer, then the old models."""
        return tuple(self.train)

    def rows(self, stores: Mapping[str, ActivationStore], images: Array) -> list[Array]:
        """(images * tokens, d) standardised activations of consecutive images, per model."""
        return [features(self.statistics, model, store, images, "token") for model, store in stores.items()]

    @torch.inference_mode()
    def codes(self, rows: Sequence[Array]) -> list[SparseCodes]:
        """Codes [n, k] of each old model, from the standardised activations (n, d) of all models."""
        return [self._encoded(model, own) for model, own in zip(self.models[1:], rows[1:], strict=True)]

    def _encoded(self, model: str, rows: Array) -> SparseCodes:
        encoder, device = self.frozen.part(model).encoder, next(self.frozen.parameters()).device
        blocks = torch.from_numpy(rows).to(device).split(ROWS)
        return concatenated([self.frozen.levels.top_k(encoder(block)) for block in blocks])


@dataclass
class Candidate:
    """One newcomer, fitted on the first `images` training images, and its sums over the held-out images.

    ceilings: (source, target) -> R2 of the linear maps that are fitted on the same images. firing: co-fires with
    each old model. reconstruction: sums of squared errors. All of held-out images only.
    """

    setting: str
    images: int
    newcomer: Newcomer
    ceilings: Mapping[Pair, float]
    firing: Mapping[str, FiringCounts]
    reconstruction: Reconstruction

    def evaluate(self, setup: Setup, images: Array, rows: Sequence[Array], codes: Sequence[SparseCodes]) -> None:
        """Add held-out `images`: standardised activations of all models, codes of the old models."""
        new, *old = setup.models
        own = self.newcomer.encode(rows[0])
        by_model = dict(zip(setup.models, [own, *codes], strict=True))
        for model, each in zip(old, codes, strict=True):
            self.firing[model].update([_chunk(images, own), _chunk(images, each)])
        concepts = setup.frozen.concepts
        decoded = ((model, self.newcomer.decode(matrix(each, concepts))) for model, each in by_model.items())
        self.reconstruction.update(new, rows[0], decoded)
        for model, activations in zip(old, rows[1:], strict=True):
            self.reconstruction.update(model, activations, [(new, _decoded(setup.frozen, model, own))])


def onboard(
    setup: Setup, sizes: Sequence[int], threshold: float, settings: Sequence[str] = (MATCHED, SHUFFLED)
) -> pd.DataFrame:
    """Table `onboarding`: newcomers fitted on the first n training images, for each n of `sizes`.

    threshold: the code above which a concept fires. settings: MATCHED, SHUFFLED (re-paired images), or UNTRAINED,
    which is MATCHED for a setup whose newcomer has random weights.
    """
    candidates = list(_candidates(setup, sizes, threshold, settings))
    blocks = _blocks([next(iter(setup.val.values())).images])
    for images in progress(blocks, total=len(blocks), description="onboarding, evaluate", unit="block"):
        rows = setup.rows(setup.val, images)
        codes = setup.codes(rows)
        for candidate in candidates:
            candidate.evaluate(setup, images, rows, codes)
    return pd.DataFrame([row for candidate in candidates for row in _rows(candidate)])


def open_setup(
    frozen: UniversalSAE, manifests: Mapping[str, Manifest], params: TrainParams, store_root: Path
) -> Setup:
    """The setup of a frozen SAE and the one model of `manifests` that it does not know."""
    order = sorted(manifests, key=lambda model: model in frozen.models)
    statistics = UniversalSAE({model: manifests[model].width for model in order}, 1, 1).eval()
    for model in order:
        set_statistics(statistics, model, manifests[model], params)
    train, val = ({model: manifests[model].open(split, store_root) for model in order} for split in SPLITS)
    means = [statistics.standardise(model, torch.tensor(manifests[model].channel_mean)) for model in order]
    origins = {model: mean.double().numpy() for model, mean in zip(order, means, strict=True)}
    return Setup(frozen.eval(), statistics, origins, train, val)


def _candidates(
    setup: Setup, sizes: Sequence[int], threshold: float, settings: Sequence[str]
) -> Iterator[Candidate]:
    """A newcomer of each setting after each number of images. Image i is re-paired with image i - 1."""
    first = next(iter(setup.train.values()))
    ends, test = sorted({min(size, first.images) for size in sizes}), _test(setup)
    sums = PairedSums.none(setup.origins, setup.frozen.concepts, settings)
    blocks, tokens, previous = _blocks(ends), first.tokens, None
    for images in progress(blocks, total=len(blocks), description="onboarding, fit", unit="block"):
        rows = setup.rows(setup.train, images)
        codes = [matrix(each, setup.frozen.concepts) for each in setup.codes(rows)]
        validation = np.repeat(images % VALIDATION == VALIDATION - 1, tokens)
        image_before = rows[0][-tokens:] if previous is None else previous
        shifted, previous = np.concatenate([image_before, rows[0][:-tokens]]), rows[0][-tokens:]
        new = {setting: shifted if setting == SHUFFLED else rows[0] for setting in settings}
        sums.update(new, rows[1:], codes, validation)
        if (count := int(images[-1]) + 1) in ends:
            for setting, newcomer in fit_newcomers(setup.frozen, sums).items():
                ceilings = _ceilings(sums.activations[setting], test, setup)
                yield _candidate(setup, setting, count, newcomer, ceilings, threshold)


def _candidate(
    setup: Setup, setting: str, images: int, newcomer: Newcomer, ceilings: Mapping[Pair, float], threshold: float
) -> Candidate:
    """A newcomer that is not evaluated yet."""
    firing = {model: FiringCounts(2, setup.frozen.concepts, threshold) for model in setup.models[1:]}
    return Candidate(setting, images, newcomer, ceilings, firing, Reconstruction(setting, "val"))


def _test(setup: Setup) -> dict[str, Products]:
    """By old model, sums over the held-out tokens of the newcomer's activations beside that model's."""
    new, *old = setup.models
    sums = {model: Products.none(np.concatenate([setup.origins[each] for each in (new, model)])) for model in old}
    blocks = _blocks([next(iter(setup.val.values())).images])
    for images in progress(blocks, total=len(blocks), description="onboarding, held-out images", unit="block"):
        own, *others = setup.rows(setup.val, images)
        for model, rows in zip(old, others, strict=True):
            sums[model].update(np.concatenate([own, rows], axis=1))
    return sums


def _ceilings(
    fitted: Mapping[str, tuple[Products, Products]], test: Mapping[str, Products], setup: Setup
) -> dict[Pair, float]:
    """R2 of the best linear maps from the newcomer, to it, and of itself."""
    new, *old = setup.models
    width = len(setup.origins[new])
    ceilings: dict[Pair, float] = {}
    for model in progress(old, total=len(old), description="onboarding, linear maps", unit="model"):
        ceilings |= ridge_r2(*fitted[model], test[model], {new: slice(0, width), model: slice(width, None)})
    return ceilings


def _rows(candidate: Candidate) -> Iterator[dict[str, object]]:
    """Rows of table `onboarding`: from the newcomer, to it, and of itself."""
    reconstruction = candidate.reconstruction
    for (source, target), residuals in reconstruction.residuals.items():
        firing = candidate.firing.get(source, candidate.firing.get(target, next(iter(candidate.firing.values()))))
        lifts = lift(firing.cofires, firing.fires, firing.tokens)
        defined = lifts[~np.isnan(lifts)]
        yield {
            "setting": candidate.setting,
            "images": candidate.images,
            "source": source,
            "target": target,
            "r2": r2(residuals, reconstruction.moments[target], "channel"),
            "r2_ridge": candidate.ceilings[source, target],
            "lift": float(np.median(defined)) if source != target and len(defined) else np.nan,
            "tokens": firing.tokens,
        }


def _blocks(ends: Sequence[int]) -> list[Array]:
    """Consecutive images from 0, at most BLOCK_IMAGES at a time; a block ends at each of `ends`."""
    return [np.array(span) for span in image_spans(range(ends[-1]), BLOCK_IMAGES, ends)]


def _chunk(images: Array, codes: SparseCodes) -> CodeChunk:
    """Codes [images * tokens, k] as the metrics read them."""
    shape = (len(images), -1, codes.indices.shape[1])
    return CodeChunk(images, codes.indices.cpu().numpy().reshape(shape), codes.values.cpu().numpy().reshape(shape))


@torch.inference_mode()
def _decoded(frozen: UniversalSAE, model: str, codes: SparseCodes) -> Array:
    """(n, d) what a frozen decoder makes of codes [n, k]."""
    device = next(frozen.parameters()).device
    on_device = SparseCodes(codes.indices.to(device), codes.values.to(device))
    return np.asarray(frozen.decode(model, on_device).float().cpu().numpy())
