"""Train on planted concepts, encode held-out images, and score which concepts were found (stage `planted`).

Three settings: `matched`, the recipe of `train`; `shuffled`, the same with the images re-paired between models;
`ideal`, no SAE but the planted activities themselves as codes, where private concepts of different models share
an index, as they must in a dictionary that is too small for all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch

from usae.activations.sampling import open_paired
from usae.activations.store import ActivationStore
from usae.activations.store.manifests import Manifest
from usae.common.numerics.correlation import CrossCorrelation
from usae.common.params import Pairs, PlantedParams, TrainParams
from usae.common.seeds import generator
from usae.common.types import Array
from usae.common.variant import Variant
from usae.evidence.codes.encoding import encoded
from usae.evidence.codes.rows import code_rows
from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.firing.counts import FiringCounts
from usae.evidence.metrics.firing.evidence import evidence
from usae.evidence.metrics.firing.nulls import IMAGES, CofireNulls
from usae.evidence.planted.recovery import Matches, match
from usae.evidence.planted.verdicts import SettingResult, universality_scores
from usae.evidence.planted.world import PAIR, PRIVATE, SHARED, TWIN, PlantedImages, PlantedWorld
from usae.sae.estimator import Estimator
from usae.training.loop.loop import RunOptions, train

BLOCK = 64  # images
CPU = torch.device("cpu")
MISSED = 0.4  # largest share of a concept's tokens that a model overlooks in ideal codes
IDEAL = "ideal"
PAIRINGS: tuple[Pairs, ...] = ("matched", "shuffled")
REPLACED = ("dictionary", "epochs", "batch_images", "learning_rate")  # of `train`, by `planted`

CodeBlocks = list[tuple[CodeChunk, ...]]  # per block of images the codes of every model


@dataclass(frozen=True)
class Trial:
    """Planted concepts, the recipe of the SAE that looks for them, and the held-out images it is scored on."""

    world: PlantedWorld
    planted: PlantedParams
    recipe: TrainParams
    threshold: float
    agreement: float
    seed: int
    held_out: Sequence[PlantedImages]

    @classmethod
    def draw(
        cls, planted: PlantedParams, recipe: TrainParams, *, threshold: float, agreement: float, seed: int
    ) -> "Trial":
        """The world of a seed; `threshold` is the code above which a concept fires, `agreement` the funnel's."""
        world = PlantedWorld.draw(planted.world, seed)
        return cls(
            world, planted, recipe, threshold, agreement, seed, list(world.blocks("val", planted.val, BLOCK))
        )

    def run(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Tables `planted` and `planted_concepts` of all three settings."""
        results = [self.scored(IDEAL, *self.ideal())]
        for pairs, sae in self.fitted().items():
            codes = self.encoded(sae)
            results.append(self.scored(pairs, codes, self.matches(sae, codes)))
        quantities = pd.concat([result.quantities() for result in results], ignore_index=True)
        return quantities, pd.concat([result.concepts() for result in results], ignore_index=True)

    def fitted(self) -> dict[str, Estimator]:
        """A universal SAE of the planted models, and one of re-paired images, through real stores."""
        recipe = self.recipe.model_copy(update={key: getattr(self.planted, key) for key in REPLACED})
        variants: dict[str, Variant] = {pairs: Variant(self.planted.k, self.seed, pairs) for pairs in PAIRINGS}
        with TemporaryDirectory() as folder:
            manifests = write_stores(self.world, self.planted.train, Path(folder))
            data = open_paired(manifests, Path(folder))
            trained = train(variants, manifests, data, recipe, RunOptions(CPU), seed=self.seed)
        return {pairs: result.sae for pairs, result in trained.items()}

    @torch.inference_mode()
    def encoded(self, sae: Estimator) -> CodeBlocks:
        """Codes of the held-out images, block by block, in all models."""
        codes: CodeBlocks = []
        for block in self.held_out:
            activations = zip(sae.models, block.activations, strict=True)
            codes.append(
                tuple(CodeChunk(block.image_ids, *encoded(sae, model, rows, CPU)) for model, rows in activations)
            )
        return codes

    @torch.inference_mode()
    def matches(self, sae: Estimator, codes: CodeBlocks) -> Matches:
        """Which codes of a trained SAE stand for which planted concepts."""
        tracking = [CrossCorrelation(sae.concepts, len(self.world.kinds)) for _ in sae.models]
        for block, chunks in zip(self.held_out, codes, strict=True):
            for sums, chunk in zip(tracking, chunks, strict=True):
                sums.update(code_rows(chunk, sae.concepts), block.activity.reshape(chunk.tokens, -1))
        dictionaries = [sae.dictionary(model).double().numpy() for model in sae.models]
        return match(dictionaries, self.world.directions, np.stack([sums.correlations for sums in tracking]))

    def ideal(self) -> tuple[CodeBlocks, Matches]:
        """Planted activities as codes, private concepts of different models at common indices.

        Each model overlooks a share of its own, up to MISSED, of every concept's tokens.
        """
        owners, slots = self.world.owners, common_slots(self.world)
        rng = generator(self.seed, "ideal codes")
        rates = owners * (1 - MISSED * rng.random(owners.shape))  # (planted, models)
        codes: CodeBlocks = []
        for block in self.held_out:
            noticed = rng.random((*block.activity.shape, owners.shape[1])) < rates  # (b, t, planted, models)
            by_model = np.moveaxis(np.where(noticed, block.activity[..., None], 0), -1, 0)
            codes.append(tuple(_at_slots(block.image_ids, activity, slots) for activity in by_model))
        return codes, Matches.exact(slots, owners)

    def scored(self, setting: str, codes: CodeBlocks, matches: Matches) -> SettingResult:
        """Scores of one setting's codes, and their co-fires beside those of re-paired images."""
        models, permutations = len(self.world.params.widths), self.planted.permutations
        counts = FiringCounts(models, matches.total, self.threshold)
        key = (IMAGES, tuple(range(models)))
        nulls = CofireNulls(
            models, matches.total, self.threshold, permutations, self.seed, self.planted.val, only=[key]
        )
        for chunks in codes:
            counts.update(chunks)
            nulls.update(chunks)
        nulls.finish()
        scores = universality_scores(counts.fires, counts.cofires, counts.tokens)
        against_null = evidence(counts, nulls.counts[key])
        return SettingResult(
            setting, self.world.kinds, self.world.owners, matches, scores, against_null, self.agreement
        )


def write_stores(world: PlantedWorld, images: int, root: Path) -> dict[str, Manifest]:
    """The world's training activations below `root`, and a manifest per model, which serves as both splits."""
    stores = {
        f"planted{model}": ActivationStore.create(
            root / f"planted{model}", (images, world.tokens, width), BLOCK, "float16", {}
        )
        for model, width in enumerate(world.params.widths)
    }
    for chunk, block in enumerate(world.blocks("train", images, BLOCK)):
        for store, activations in zip(stores.values(), block.activations, strict=True):
            store.write(chunk, activations)
    return {model: Manifest.generated(model, store) for model, store in stores.items()}


def common_slots(world: PlantedWorld) -> Array:
    """(g,) an index of its own for every shared and pairwise concept; private ones share the index of their place
    in the models' lists, twins that of their group."""
    kinds, owners = world.kinds, world.owners
    slots = np.arange(len(kinds))
    lists = (kinds == PRIVATE)[:, None] & owners  # (planted, models)
    first = np.flatnonzero(kinds == PRIVATE)
    slots[first] = (lists.cumsum(axis=0) - 1)[lists] + int(np.isin(kinds, (SHARED, PAIR)).sum())
    twins = kinds == TWIN
    slots[twins] = world.leaders[twins] + slots[~twins].max() + 1
    return slots


def _at_slots(images: Array, activity: Array, slots: Array) -> CodeChunk:
    """Codes (b, t, slots) of planted activities (b, t, g), of which each index has at most one that is not 0."""
    values = np.zeros((*activity.shape[:2], int(slots.max()) + 1), dtype=np.float32)
    image, token, planted = np.nonzero(activity)
    values[image, token, slots[planted]] = activity[image, token, planted]
    return CodeChunk(images, np.broadcast_to(np.arange(values.shape[2]), values.shape), values)
