"""What single concepts say of known labels, by where they start and in how many levels (docs/concepts.md).

    python -m benchmarks.concept_labels [--checkout FOLDER] [--dictionary 256] [--steps 564] --rates 0.03 0.01
                                        --only "levels, coarse slower" tokens

A recipe each, with a rate each; trained as in `benchmarks.concepts`, without halves. An image's score is the sum
of a concept's codes over its tokens. For every label that at least ten images of each half carry, the concept that
ranks one half of the held-out images best is judged by its AUC on the other half. Prints a Markdown table: means
over labels and models, beside those of the SAE before its first step.
"""

import argparse
from pathlib import Path
from typing import cast

import numpy as np
import torch

from benchmarks.concepts import RECIPES, Material, sized
from benchmarks.recipes import BATCH_IMAGES
from usae.activations.store import ActivationStore, image_spans
from usae.common.layout import Layout
from usae.common.types import Array
from usae.common.variant import Variant
from usae.evidence.codes.encoding import code_chunk
from usae.evidence.metrics.labels.labels import carried_by_images
from usae.evidence.metrics.labels.loading import load_labels
from usae.evidence.metrics.labels.single import ImageScores, label_auc
from usae.sae.universal import UniversalSAE
from usae.training.loop.loop import RunOptions, train

CPU = torch.device("cpu")
BLOCK = 64  # images encoded at once


def main() -> None:
    """Train each recipe once and ask its concepts."""
    options = _options()
    torch.set_num_threads(1)
    sizes = {} if options.dictionary is None else {"dictionary": options.dictionary}
    material = Material.opened(options.checkout, False, sizes | {"batch_images": BATCH_IMAGES})
    stores = cast(dict[str, ActivationStore], dict(material.scored["held out"]))
    some = next(iter(stores.values()))
    labels = load_labels(options.checkout / Layout().images, "val", some.images)
    assert labels is not None, "these images have no labels"
    labelled, carried = carried_by_images(labels, np.arange(some.images), some.tokens)
    present = carried.toarray().astype(bool)  # (labelled images, labels)
    print("| recipe | rate | label AUC | before the first step |\n| --- | --- | --- | --- |")
    for name, rate in zip(options.only, options.rates, strict=True):
        changes = sized(RECIPES[name], material.params) | {"learning_rate": rate}
        recipe = material.params.train.model_copy(update=changes)
        variants = {"run": Variant(material.params.k, options.seed)}
        found = train(
            variants,
            material.manifests,
            material.seen,
            recipe,
            RunOptions(CPU),
            seed=options.seed,
            steps=options.steps,
        )["run"]
        after, before = (
            label_auc(np.stack([image_scores(sae, m, store)[labelled] for m, store in stores.items()]), present)
            for sae in (cast(UniversalSAE, found.sae), cast(UniversalSAE, found.start))
        )
        print(f"| {name} | {rate:g} | {after:.3f} | {before:.3f} |", flush=True)


def image_scores(sae: UniversalSAE, model: str, store: ActivationStore) -> Array:
    """(images, c) sums of codes over the tokens of each image."""
    scores = ImageScores(1, np.arange(store.images), sae.concepts)
    for span in image_spans(range(store.images), BLOCK):
        images = np.asarray(span)
        scores.update((code_chunk(sae, model, store.take(images), images, CPU),))
    return scores.scores[0]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkout", type=Path, default=Path(), help="folder with params.yaml and data/ of a run")
    parser.add_argument("--dictionary", type=int, help="concepts, in place of the run's")
    parser.add_argument("--steps", type=int, default=564)
    parser.add_argument("--rates", type=float, nargs="+", required=True, help="peak learning rate of each recipe")
    parser.add_argument("--only", nargs="+", choices=list(RECIPES), required=True, help="recipes")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
