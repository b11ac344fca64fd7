"""A student's replication of universal SAEs, again: what k and the dictionary change, and what sharing costs.

    python -m benchmarks.replication --name pooled [--checkout FOLDER] [--steps 710] [--k 4 8]
                                     [--dictionary 256 1024] [--batch-images 128] [--maximise 3] [--seed 1]

Works on the stores of a run of presets/replication.yaml (`dvc repro extract`) with its params. Of every k and
dictionary it trains, on the same images in the same order and for as many steps each, the universal SAE, the same
on re-paired images, and an SAE of each model alone. All are scored on the held-out images and on as many training
ones, and linear maps beside them. The alignment tax of a model is R2 of its own SAE less R2 of the universal one
within that model. Rows are appended to benchmarks/replication.csv; what is there is not run again. `--table`
prints it as Markdown. `--maximise` makes pictures of so many concepts of each universal SAE and of as many random
directions, and appends their curves to benchmarks/replication_curves.csv. docs/results.md is the reading.
"""

import argparse
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from benchmarks.recipes import CPU, evaluated, matrix_of
from benchmarks.replication_maximised import CURVES, maximised
from benchmarks.replication_table import append, known, markdown, rows_so_far
from usae.activations.sampling import PairedActivations, open_paired
from usae.activations.store import store_root
from usae.activations.store.manifests import Manifest, load_manifests
from usae.common.params import PARAMS_FILE, Params, load_params
from usae.common.seeds import seed_of
from usae.common.types import Array
from usae.common.variant import Variant
from usae.evidence.controls.names import INDEPENDENT, RUN, SHUFFLED
from usae.evidence.metrics.firing.counts import FiringCounts, cofire_proportion, firing_entropy, lift
from usae.evidence.metrics.reconstruction.passes import linear_ceilings
from usae.sae.universal import UniversalSAE
from usae.training.loop.loop import RunOptions, train

HELD_OUT, TRAINING = "held out", "training"
MOSTLY_BOTH, BOTH = 0.8, 0.95  # firing entropies: what the replication calls universal, and near 1


@dataclass(frozen=True)
class Material:
    """What a run gives. scored: by name, the held-out images and as many training ones, evenly spaced."""

    params: Params
    manifests: Mapping[str, Manifest]
    seen: PairedActivations
    scored: Mapping[str, PairedActivations]

    @classmethod
    def of(
        cls, params: Params, manifests: Mapping[str, Manifest], seen: PairedActivations, root: Path
    ) -> "Material":
        """The stores below `root`; `seen` has those of the training images."""
        val = PairedActivations({model: manifest.open("val", root) for model, manifest in manifests.items()})
        again = np.unique(np.linspace(0, seen.images - 1, min(val.images, seen.images)).astype(int))
        return cls(params, manifests, seen, {HELD_OUT: val, TRAINING: seen.part(again)})


def main() -> None:
    """Run what is asked for and not yet in the table."""
    options = _options()
    if options.table:
        print(markdown(rows_so_far()))
        return
    torch.set_num_threads(options.threads)
    material = opened(options.checkout, options.batch_images, options.seed)
    for steps, k, dictionary in product(options.steps, options.k, options.dictionary):
        seed = material.params.seed
        if not known(rows_so_far(), [options.name, seed, steps, k, dictionary]):
            rows, sae = results(material, k, dictionary, steps)
            append({"data": options.name, **row} for row in rows)
            if options.maximise:
                cell = {"data": options.name, "seed": seed, "steps": steps, "k": k, "dictionary": dictionary}
                append(({**cell, **row} for row in curves(material, sae, options)), CURVES)


def opened(checkout: Path, batch_images: int | None = None, seed: int | None = None) -> Material:
    """The stores of the run in `checkout`. batch_images, seed: None, the run's."""
    params = load_params(checkout / PARAMS_FILE)
    params = params.model_copy(update={"seed": params.seed if seed is None else seed})
    size = {"batch_images": batch_images or params.train.batch_images}
    params = params.model_copy(update={"train": params.train.model_copy(update=size)})
    manifests = load_manifests(checkout / "data/manifests", params.models)
    root = checkout / store_root(params.runtime.store)
    return Material.of(params, manifests, open_paired(manifests, root), root)


def results(material: Material, k: int, dictionary: int, steps: int) -> tuple[list[dict[str, Any]], UniversalSAE]:
    """Rows of one k and dictionary, of the SAEs and of the linear maps; and the universal SAE."""
    saes, seconds = trained(material, k, dictionary, steps)
    universal, models = saes[RUN], tuple(material.manifests)
    alone = {model: saes[f"{INDEPENDENT}{model}"] for model in models}
    cell = {"seed": material.params.seed, "steps": steps, "k": k, "dictionary": dictionary, "cpu_seconds": seconds}
    rows = []
    for images, data in material.scored.items():
        threshold = material.params.measure.threshold
        scores = {name: scored(saes[name], data, threshold) for name in (RUN, SHUFFLED)}
        scores["alone"] = alone_r2(alone, data, threshold)
        scores |= linear_r2(universal, material) if images == HELD_OUT else {}
        rows += [{**cell, "images": images, "run": run, **row} for run, row in scores.items()]
    return rows, universal


def trained(material: Material, k: int, dictionary: int, steps: int) -> tuple[dict[str, UniversalSAE], float]:
    """The SAEs by name, with as many steps each, and the CPU-seconds of all together."""
    seed, recipe = material.params.seed, material.params.train.model_copy(update={"dictionary": dictionary})
    variants = {RUN: Variant(k, seed), SHUFFLED: Variant(k, seed, "shuffled")} | {
        f"{INDEPENDENT}{model}": Variant(k, seed_of(seed, "independent SAE", model), models=(model,))
        for model in material.manifests
    }
    began = time.process_time()
    done = train(variants, material.manifests, material.seen, recipe, RunOptions(CPU), seed=seed, steps=steps)
    return {name: cast(UniversalSAE, result.sae) for name, result in done.items()}, time.process_time() - began


def scored(sae: UniversalSAE, data: PairedActivations, threshold: float) -> dict[str, float]:
    """R2 of every pair of models, and what fires."""
    table, counts = evaluated(sae, data, threshold)
    return named(matrix_of(table, list(data.models)), data.models) | firing(counts)


def alone_r2(saes: Mapping[str, UniversalSAE], data: PairedActivations, threshold: float) -> dict[str, float]:
    """R2 of each model by an SAE of its own."""
    tables = {model: evaluated(sae, data.select([model]), threshold)[0] for model, sae in saes.items()}
    return {f"r2_{m}_{m}": float(matrix_of(table, [m])[0, 0]) for m, table in tables.items()}


def linear_r2(sae: UniversalSAE, material: Material) -> dict[str, dict[str, float]]:
    """R2 on the held-out images of the best linear maps, of any rank and of rank k, from the training images."""
    held_out = material.scored[HELD_OUT]
    ceilings = linear_ceilings(sae, material.seen.stores, held_out.stores, held_out.images)
    forms = {"linear": ceilings.ridge, "linear, rank k": ceilings.rank_k}
    return {
        name: {f"r2_{source}_{target}": r2 for (source, target), r2 in form.items()}
        for name, form in forms.items()
    }


def named(matrix: Array, models: Iterable[str]) -> dict[str, float]:
    """R2 [source, target] by columns of the table."""
    pairs = product(models, repeat=2)
    return {f"r2_{source}_{target}": float(r2) for (source, target), r2 in zip(pairs, matrix.flat, strict=True)}


def firing(counts: FiringCounts) -> dict[str, float]:
    """Concepts that fire, by how evenly the models do; how often all fire where one does; its lift over chance."""
    fires, entropy = counts.fires, firing_entropy(counts.fires)
    return {
        "alive": int(fires.any(axis=0).sum()),
        "one_model": int((entropy == 0).sum()),
        "mostly_both": int((entropy > MOSTLY_BOTH).sum()),
        "both": int((entropy > BOTH).sum()),
        "cofire_proportion": float(np.nanmean(cofire_proportion(counts.cofires, fires))),
        "lift_median": float(np.nanmedian(lift(counts.cofires, fires, counts.tokens))),
        "codes": float(counts.sparsity.mean()),
    }


def curves(material: Material, sae: UniversalSAE, options: argparse.Namespace) -> list[dict[str, Any]]:
    """See `maximised`; of the concepts that the models agree on most, on the held-out images."""
    settings = material.params.maximise
    settings = settings.model_copy(update={"steps": options.picture_steps})
    params = material.params.model_copy(update={"maximise": settings})
    counts = evaluated(sae, material.scored[HELD_OUT], params.measure.threshold)[1]
    return maximised(params, sae, material.manifests, counts, options.maximise, options.checkout)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--name", help="what to call these activations in the table")
    parser.add_argument("--checkout", type=Path, default=Path(), help="folder with params.yaml and data/ of a run")
    parser.add_argument("--steps", type=int, nargs="+", default=[710], help="budgets")
    parser.add_argument("--k", type=int, nargs="+", default=[4, 8], help="codes kept")
    parser.add_argument("--dictionary", type=int, nargs="+", default=[256, 1024], help="concepts")
    parser.add_argument("--batch-images", type=int, help="images a step, in place of the run's")
    parser.add_argument("--seed", type=int, help="of starts and batches, in place of the run's")
    parser.add_argument("--maximise", type=int, default=0, help="concepts to make pictures of")
    parser.add_argument("--picture-steps", type=int, default=100, help="steps of each picture")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--table", action="store_true", help="print the table as Markdown")
    return parser.parse_args()


if __name__ == "__main__":
    main()
