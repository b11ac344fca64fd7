"""How many images does a new model need to speak the concepts of a finished universal SAE? (stage `onboarding`)

Table `onboarding`. The SAE of the other models stays as it is. After the first n training images the newcomer gets
an encoder and a dictionary (`newcomer.py`) and is judged on all held-out images: beside it stand a
newcomer that learnt from re-paired images, one whose network has random weights, and the best linear maps from as
many images.
"""

import copy
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
from usae.common.types import Array
from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.firing.counts import FiringCounts, lift
from usae.evidence.metrics.reconstruction.passes import features, model_spans
from usae.evidence.metrics.reconstruction.r2 import Reconstruction, r2
from usae.evidence.onboarding.newcomer import ROWS, Lessons, Newcomer, joined, learn, matrix
from usae.sae.sparse import SparseCodes, top_k
from usae.sae.universal import UniversalSAE
from usae.training.loop.initialisation import set_statistics

BLOCK_IMAGES = 50
MATCHED, SHUFFLED, UNTRAINED = "matched", "shuffled", "untrained"


@dataclass(frozen=True)
class Team:
    """The frozen SAE of the old models, and everyone's activations, the newcomer's first.

    units: an SAE of no use but for the statistics of everyone's activations.
    """

    frozen: UniversalSAE
    units: UniversalSAE
    train: Mapping[str, ActivationStore]
    val: Mapping[str, ActivationStore]

    @property
    def models(self) -> tuple[str, ...]:
        """The newcomer, then the old models."""
        return tuple(self.train)

    def rows(self, stores: Mapping[str, ActivationStore], images: Array) -> list[Array]:
        """(images * tokens, d) standardised activations of consecutive images, per model."""
        return [features(self.units, model, store, images, "token") for model, store in stores.items()]

    @torch.inference_mode()
    def codes(self, rows: Sequence[Array]) -> list[SparseCodes]:
        """Codes [n, k] of the old models, from everyone's standardised activations."""
        return [self._encoded(model, part) for model, part in zip(self.models[1:], rows[1:], strict=True)]

    def _encoded(self, model: str, rows: Array) -> SparseCodes:
        encoder, device = self.frozen.part(model).encoder, next(self.frozen.parameters()).device
        parts = torch.from_numpy(rows).to(device).split(ROWS)
        return joined([top_k(encoder(part), self.frozen.k) for part in parts])


@dataclass
class Pupil:
    """One newcomer, and its marks on the held-out images: sums of residuals and counts of co-fires."""

    setting: str
    images: int
    newcomer: Newcomer
    lessons: tuple[Products, Products]
    firing: FiringCounts
    marks: Reconstruction

    def examine(self, team: Team, images: Array, rows: Sequence[Array], codes: Sequence[SparseCodes]) -> None:
        """Add held-out images: everyone's standardised activations and the codes of the old models."""
        new, *old = team.models
        own = self.newcomer.encode(rows[0])
        everyone = dict(zip(team.models, [own, *codes], strict=True))
        self.firing.update([_chunk(images, part) for part in everyone.values()])
        concepts = team.frozen.concepts
        read = ((model, self.newcomer.decode(matrix(part, concepts))) for model, part in everyone.items())
        self.marks.update(new, rows[0], read)
        for model, part in zip(old, rows[1:], strict=True):
            self.marks.update(model, part, [(new, _decoded(team.frozen, model, own))])


def onboard(
    team: Team, sizes: Sequence[int], threshold: float, settings: Sequence[str] = (MATCHED, SHUFFLED)
) -> pd.DataFrame:
    """Table `onboarding`: newcomers that learn from the first n training images, for each n of `sizes`.

    settings: MATCHED, SHUFFLED (re-paired images), or UNTRAINED, which is MATCHED for a team whose newcomer is so.
    """
    pupils = list(_pupils(team, sizes, threshold, settings))
    spans = model_spans(team.val)
    test = Products.none(np.zeros(max(span.stop for span in spans.values())))
    blocks = _blocks([next(iter(team.val.values())).images])
    for images in progress(blocks, total=len(blocks), description="onboarding, examine", unit="block"):
        rows = team.rows(team.val, images)
        codes = team.codes(rows)
        test.update(np.concatenate(rows, axis=1))
        for pupil in pupils:
            pupil.examine(team, images, rows, codes)
    return pd.DataFrame([row for pupil in pupils for row in _rows(pupil, team.models, test, spans)])


def gathered(
    frozen: UniversalSAE, manifests: Mapping[str, Manifest], params: TrainParams, store_root: Path
) -> Team:
    """The team of a frozen SAE and the one model of `manifests` that it does not know."""
    order = sorted(manifests, key=lambda model: model in frozen.models)
    units = UniversalSAE({model: manifests[model].width for model in order}, 1, 1).eval()
    for model in order:
        set_statistics(units, model, manifests[model], params)
    train, val = ({model: manifests[model].open(split, store_root) for model in order} for split in SPLITS)
    return Team(frozen.eval(), units, train, val)


def _pupils(team: Team, sizes: Sequence[int], threshold: float, settings: Sequence[str]) -> Iterator[Pupil]:
    """A newcomer of each setting after each number of images. Image i is re-paired with image i - 1."""
    available = next(iter(team.train.values())).images
    ends = sorted({min(size, available) for size in sizes})
    widths = [store.width for store in team.train.values()]
    lessons = {setting: Lessons.none(widths, team.frozen.concepts) for setting in settings}
    blocks, tokens, last = _blocks(ends), next(iter(team.train.values())).tokens, None
    for images in progress(blocks, total=len(blocks), description="onboarding, learn", unit="block"):
        rows = team.rows(team.train, images)
        codes = [matrix(part, team.frozen.concepts) for part in team.codes(rows)]
        late = np.repeat(images % VALIDATION == VALIDATION - 1, tokens)
        before = rows[0][-tokens:] if last is None else last
        shifted, last = np.concatenate([before, rows[0][:-tokens]]), rows[0][-tokens:]
        for setting, known in lessons.items():
            known.update([shifted if setting == SHUFFLED else rows[0], *rows[1:]], codes, late)
        if (count := int(images[-1]) + 1) in ends:
            for setting, known in lessons.items():
                newcomer = learn(team.frozen, known, model_spans(team.train))
                firing = FiringCounts(len(widths), team.frozen.concepts, threshold)
                marks = Reconstruction(setting, "val")
                yield Pupil(setting, count, newcomer, copy.deepcopy(known.activations), firing, marks)


def _rows(
    pupil: Pupil, models: Sequence[str], test: Products, spans: Mapping[str, slice]
) -> Iterator[dict[str, object]]:
    """Rows of table `onboarding`: from the newcomer, to it, and of itself."""
    ceiling = ridge_r2(*pupil.lessons, test, spans)
    for (source, target), residuals in pupil.marks.residuals.items():
        pair = [models.index(source), models.index(target)]
        counts, fires = pupil.firing.together(pair), pupil.firing.fires[pair]
        lifts = lift(counts, fires, pupil.firing.tokens)
        known = lifts[~np.isnan(lifts)]
        yield {
            "setting": pupil.setting,
            "images": pupil.images,
            "source": source,
            "target": target,
            "r2": r2(residuals, pupil.marks.moments[target], "channel"),
            "r2_ridge": ceiling[source, target],
            "lift": float(np.median(known)) if source != target and len(known) else np.nan,
            "tokens": pupil.firing.tokens,
        }


def _blocks(ends: Sequence[int]) -> list[Array]:
    """Consecutive images from 0, some at a time, with a pause at each of `ends`."""
    return [np.array(span) for span in image_spans(range(ends[-1]), BLOCK_IMAGES, ends)]


def _chunk(images: Array, codes: SparseCodes) -> CodeChunk:
    """Codes [images * tokens, k] as the metrics read them."""
    shape = (len(images), -1, codes.indices.shape[1])
    return CodeChunk(images, codes.indices.cpu().numpy().reshape(shape), codes.values.cpu().numpy().reshape(shape))


@torch.inference_mode()
def _decoded(frozen: UniversalSAE, model: str, codes: SparseCodes) -> Array:
    """(n, d) what a frozen decoder makes of codes [n, k]."""
    device = next(frozen.parameters()).device
    moved = SparseCodes(codes.indices.to(device), codes.values.to(device))
    return np.asarray(frozen.decode(model, moved).float().cpu().numpy())
