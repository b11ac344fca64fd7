"""One planted world: train on it, encode held-out images, and score which concepts were found (stage `planted`).

Settings: `matched`, the recipe of `train`; `start`, the same SAE before its first step; `shuffled`, the recipe
with the images re-paired between the models; `ideal`, no SAE but the planted activities themselves as codes, where
concepts of different models share an index, as they must in a dictionary that is too small for all.
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
from usae.common.params import Params, TrainParams
from usae.common.variant import Variant
from usae.evidence.codes.encoding import encoded
from usae.evidence.codes.rows import code_rows
from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.firing.counts import FiringCounts
from usae.evidence.planted.ideal import CodeBlocks, ideal_codes
from usae.evidence.planted.likeness import least_correlations
from usae.evidence.planted.recovery import Matches, match
from usae.evidence.planted.verdicts import against_chance, concept_rows, precision_rows, rules, universality_scores
from usae.evidence.planted.world import PlantedImages, PlantedWorld
from usae.sae.estimator import Concepts, Estimator
from usae.training.loop.loop import RunOptions, train

BLOCK = 64  # images
CPU = torch.device("cpu")
IDEAL, START, MATCHED, SHUFFLED = "ideal", "start", "matched", "shuffled"
REPLACED = ("dictionary", "levels", "epochs", "batch_images", "learning_rate")  # of `train`, by `planted`


@dataclass(frozen=True)
class Trial:
    """Planted concepts, the parameters by which SAEs look for them, and the held-out images they are scored on."""

    world: PlantedWorld
    params: Params
    seed: int
    held_out: Sequence[PlantedImages]

    @classmethod
    def draw(cls, params: Params, seed: int) -> "Trial":
        """The world of a seed, which need not be that of the run, and its held-out images."""
        world = PlantedWorld.draw(params.planted.world, seed)
        return cls(world, params, seed, list(world.blocks("val", params.planted.val, BLOCK)))

    @property
    def recipe(self) -> TrainParams:
        """By which SAEs are trained here."""
        return self.params.train.model_copy(update={key: getattr(self.params.planted, key) for key in REPLACED})

    def run(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Planted concepts and codes of all settings, judged (see `scored`)."""
        results = [self.scored(IDEAL, *ideal_codes(self.world, self.held_out, self.seed))]
        for setting, sae in self.fitted().items():
            codes = self.encoded(sae)
            results.append(self.scored(setting, codes, self.matches(sae, codes)))
        concepts, codes_judged = zip(*results, strict=True)
        return pd.concat(concepts, ignore_index=True), pd.concat(codes_judged, ignore_index=True)

    def fitted(self) -> dict[str, Estimator]:
        """The universal SAE of the planted models in each setting, trained through real stores."""
        planted = self.params.planted
        variants = {
            MATCHED: Variant(planted.k, self.seed),
            SHUFFLED: Variant(planted.k, self.seed, "shuffled"),
        }
        with TemporaryDirectory() as folder:
            manifests = write_stores(self.world, planted.train, Path(folder))
            data = open_paired(manifests, Path(folder))
            trained = train(variants, manifests, data, self.recipe, RunOptions(CPU), seed=self.seed)
        return {START: trained[MATCHED].start} | {setting: result.sae for setting, result in trained.items()}

    @torch.inference_mode()
    def encoded(self, sae: Concepts) -> CodeBlocks:
        """Codes of the held-out images, block by block, in all models."""
        codes: CodeBlocks = []
        for block in self.held_out:
            activations = zip(sae.models, block.activations, strict=True)
            codes.append(
                tuple(CodeChunk(block.image_ids, *encoded(sae, model, rows, CPU)) for model, rows in activations)
            )
        return codes

    @torch.inference_mode()
    def matches(self, sae: Concepts, codes: CodeBlocks) -> Matches:
        """Which codes of an SAE stand for which planted concepts; where it has fewer, further ones never fire."""
        planted = len(self.world.kinds)
        size = max(sae.concepts, planted)
        tracking = [CrossCorrelation(size, planted) for _ in sae.models]
        for block, chunks in zip(self.held_out, codes, strict=True):
            for sums, chunk in zip(tracking, chunks, strict=True):
                sums.update(code_rows(chunk, size), block.activity.reshape(chunk.tokens, -1))
        directions = [sae.dictionary(model).double().cpu().numpy() for model in sae.models]
        dictionaries = [np.pad(rows, ((0, size - sae.concepts), (0, 0))) for rows in directions]
        return match(dictionaries, self.world.directions, np.stack([sums.correlations for sums in tracking]))

    def scored(self, setting: str, codes: CodeBlocks, matches: Matches) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Rows of table `planted_concepts`, and of the codes behind the rules' precision, of one setting."""
        counts = FiringCounts(len(self.world.params.widths), len(matches.follows), self.params.measure.threshold)
        for chunks in codes:
            counts.update(chunks)
        tested, dependent = against_chance(counts, codes, self.params.planted.permutations, self.seed)
        correlations = least_correlations(codes, counts.concepts)
        scores = universality_scores(counts, correlations)
        called = rules(tested, dependent, correlations, counts.models, self.params.measure.agreement)
        frames = (
            concept_rows(self.world, matches, scores, tested["p"].to_numpy(), called),
            precision_rows(self.world, matches, scores, called),
        )
        for rows in frames:
            rows.insert(0, "setting", setting)
            rows.insert(1, "seed", self.seed)
        return frames


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
