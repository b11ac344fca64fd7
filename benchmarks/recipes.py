"""Which recipe is better: the authors' choices, the default's, and the default with one choice turned back.

    python -m benchmarks.recipes --name demo [--checkout FOLDER] [--steps 188 752] [--only RECIPE ...]

Works on the stores of a run (`dvc repro extract`) with its params. No SAE trains on one training image in ten: by
these the learning rate of a recipe is chosen, with the first seed, and then it is scored on the held-out images.
Rows are appended to benchmarks/recipes.csv as they come; what is there is not run again. `--table` prints the file
as Markdown. docs/recipes.md is the reading.
"""

import argparse
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.recipes_table import append, known, markdown, rates_of, rows_so_far
from usae.activations.sampling import Loader, PairedActivations, Plan, open_paired
from usae.activations.store import store_root
from usae.activations.store.manifests import Manifest, load_manifests
from usae.common.params import PARAMS_FILE, TrainParams, load_params
from usae.common.runtime.ranks import Ranks
from usae.common.variant import Variant
from usae.evidence.codes.encoding import encoded
from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.firing.counts import FiringCounts, cofire_proportion, lift
from usae.evidence.metrics.reconstruction.r2 import Reconstruction
from usae.sae.sparse import SparseCodes
from usae.sae.universal import UniversalSAE
from usae.training.loop.method import Start
from usae.training.loop.schedule import Schedule
from usae.training.loop.universal import UniversalMethod, draw_source, start
from usae.training.start import calibrate

RATES = [0.0003, 0.001, 0.003]
BATCH_IMAGES = 32  # the authors' number
CHOICE = 10  # one training image in so many is kept for the choice of the learning rate
WARMUP = 8  # one update in so many is warm-up
BLOCK = 64  # images scored at once
CPU = torch.device("cpu")
BASE = {  # common to all
    "standardize": "scalar", "precision": "float32", "pairs": "matched", "levels": None, "sources": "one",
    "dictionary_rows": "free",
}  # fmt: skip
OFFICIAL = {
    "init": "random",
    "update": "source",
    "loss": "l1",
    "gain": "unit",
    "aux": "multi_topk",
    "aux_weight": 0.1,
    "schedule": "per_model",
    "shuffle_tokens": False,
}
DEFAULT = {
    "init": "paired",
    "update": "all",
    "loss": "l2",
    "gain": "width",
    "aux": "none",
    "schedule": "global",
    "shuffle_tokens": True,
}
LITERAL = "official, literal schedule"  # warm-up of an epoch, cosine over all steps, both in a model's own updates
RECIPES: dict[str, dict[str, Any]] = {
    "official": OFFICIAL,
    LITERAL: OFFICIAL,
    "official, paired start": {**OFFICIAL, "init": "paired"},
    "official, no auxiliary term": {**OFFICIAL, "aux": "none"},
    "default": DEFAULT,
    "default, random start": {**DEFAULT, "init": "random"},
    "default, only the source's decoder": {**DEFAULT, "update": "source"},
    "default, l1": {**DEFAULT, "loss": "l1"},
    "default, unit gain": {**DEFAULT, "gain": "unit"},
    "default, whole images": {**DEFAULT, "shuffle_tokens": False},
    "default, multi_topk": {**DEFAULT, "aux": "multi_topk", "aux_weight": 0.1},
}


@dataclass(frozen=True)
class Material:
    """What a run gives. seen: images that SAEs train on. choice: other training images. val: held-out ones."""

    manifests: Mapping[str, Manifest]
    train: TrainParams
    k: int
    threshold: float
    seen: PairedActivations
    choice: PairedActivations
    val: PairedActivations


def main() -> None:
    """Run what is asked for and not yet in the table."""
    options = _options()
    if options.table:
        print(markdown(rows_so_far()))
        return
    torch.set_num_threads(options.threads)
    material = opened(options.checkout, options.dictionary)
    for steps, seed, name in product(options.steps, options.seeds, options.only or RECIPES):
        for rate in rates_of(rows_so_far(), (options.name, steps, name), seed, options.rates, options.rates_at):
            if not known(rows_so_far(), [options.name, steps, name, seed, rate]):
                append({"data": options.name, **result(material, name, steps, seed, rate)})


def opened(checkout: Path, dictionary: int | None = None) -> Material:
    """The stores of the run in `checkout`, its training images in two parts. dictionary: None, the run's.

    A batch has the authors' number of images.
    """
    params = load_params(checkout / PARAMS_FILE)
    manifests = load_manifests(checkout / "data/manifests", params.models)
    root = checkout / store_root(params.runtime.store)
    seen, choice = parts(open_paired(manifests, root))
    val = PairedActivations({model: manifest.open("val", root) for model, manifest in manifests.items()})
    sizes = {"batch_images": BATCH_IMAGES, "dictionary": dictionary or params.train.dictionary}
    train = params.train.model_copy(update=sizes)
    return Material(manifests, train, params.k, params.measure.threshold, seen, choice, val)


def parts(data: PairedActivations) -> tuple[PairedActivations, PairedActivations]:
    """Training images to learn from, and every tenth to choose the learning rate by."""
    kept = np.arange(data.images) % CHOICE == CHOICE - 1
    return data.part(np.flatnonzero(~kept)), data.part(np.flatnonzero(kept))


def result(material: Material, name: str, steps: int, seed: int, rate: float) -> dict[str, Any]:
    """One SAE: a row of the table."""
    method, schedule, seconds = trained(material, name, steps, seed, rate)
    sae = method.finished()
    choice = scores(sae, material.choice, material.threshold)
    return {
        "recipe": name,
        "steps": steps,
        "seed": seed,
        "learning_rate": rate,
        "warmup": schedule.warmup,
        "last_rate": max(each.param_groups[0]["lr"] for each in method.optimisation.optimisers.values()),
        "encoder_updates": updates(method, "encoder"),
        "dictionary_updates": updates(method, "dictionary"),
        "cpu_ms_step": 1000 * seconds / max(1, steps),
        **{f"choice_{score}": choice[score] for score in ("r2_all", "r2_self", "r2_cross")},
        **scores(sae, material.val, material.threshold),
    }


def trained(
    material: Material, name: str, steps: int, seed: int, rate: float
) -> tuple[UniversalMethod, Schedule, float]:
    """An SAE after so many steps, and the CPU-seconds of them; after none, its normalisation is calibrated."""
    recipe = material.train.model_copy(update={**BASE, **RECIPES[name], "learning_rate": rate})
    loader = loader_of(material, recipe, seed)
    schedule = schedule_of(name, recipe, steps, seed, tuple(material.manifests), loader.steps_per_epoch)
    variant = Variant(material.k, seed)
    method = start(Start(variant, material.manifests, material.seen, recipe, schedule, Ranks(), CPU))
    if steps == 0:
        calibrate(method.sae, material.seen)
    began = time.process_time()
    for batch in loader.batches(0, steps):
        method.step(batch.activations, batch.step, scored=False)
    return method, schedule, time.process_time() - began


def loader_of(material: Material, recipe: TrainParams, seed: int) -> Loader:
    """Batches in the order of the seed."""
    plan = Plan(recipe.batch_images, seed, recipe.window_images, recipe.shuffle_tokens)
    return Loader(material.seen, plan, CPU)


def schedule_of(
    name: str, recipe: TrainParams, steps: int, seed: int, models: tuple[str, ...], epoch: int
) -> Schedule:
    """Warm-up in proportion to the updates that the rate follows, and a cosine that ends with the last of them.

    `schedule: per_model` follows a model's own updates: those of the model drawn most often set the length.
    `LITERAL` warms up for an `epoch` of own updates and has its end where there are as many of them as steps.
    """
    drawn = Counter(draw_source(seed, step, models) for step in range(steps))
    own = recipe.schedule == "per_model" and name != LITERAL
    length = max(1, max(drawn.values(), default=0) if own else steps)
    warmup = round(recipe.warmup_epochs * epoch) if name == LITERAL else max(1, round(length / WARMUP))
    return Schedule(recipe.learning_rate, recipe.final_learning_rate, warmup, length)


def updates(method: UniversalMethod, group: str) -> str:
    """How often the encoder (or the dictionary) of each model was stepped, in the models' order: 61/64/63."""
    return "/".join(str(method.optimisation.updates[(model, group)]) for model in method.sae.models)


def scores(sae: UniversalSAE, data: PairedActivations, threshold: float) -> dict[str, float]:
    """R2 (channel means; over all pairs, within models, across them), co-firing and its lift, dead concepts."""
    table, counts = evaluated(sae, data, threshold)
    matrix = matrix_of(table, list(data.models))
    own = np.eye(len(matrix), dtype=bool)
    fires, cofires = counts.fires, counts.cofires
    return {
        "r2_all": matrix.mean(),
        "r2_self": matrix[own].mean(),
        "r2_cross": matrix[~own].mean(),
        "r2_cross_least": matrix[~own].min(),
        "cofire_proportion": float(np.nanmean(cofire_proportion(cofires, fires))),
        "lift_median": float(np.nanmedian(lift(cofires, fires, counts.tokens))),
        "dead": int((fires.sum(0) == 0).sum()),
    }


@torch.inference_mode()
def evaluated(sae: UniversalSAE, data: PairedActivations, threshold: float) -> tuple[Reconstruction, FiringCounts]:
    """Sums over all images of `data`."""
    table, counts = Reconstruction("usae", "val"), FiringCounts(len(data.models), sae.concepts, threshold)
    for images in np.array_split(np.arange(data.images), -(-data.images // BLOCK)):
        raw = {model: stored.numpy() for model, stored in data.gather(images).items()}  # (b, t, d)
        codes = {model: encoded(sae, model, rows, CPU) for model, rows in raw.items()}
        counts.update([CodeChunk(images, *pair) for pair in codes.values()])
        for target, rows in raw.items():
            truth = sae.standardise(target, torch.from_numpy(rows)).numpy()
            sparse = {m: SparseCodes(*map(torch.from_numpy, pair)) for m, pair in codes.items()}
            guesses = ((source, sae.decode(target, code).numpy()) for source, code in sparse.items())
            table.update(target, truth, guesses)
    return table, counts


def matrix_of(table: Reconstruction, models: list[str]) -> np.ndarray:
    """R2 about channel means [source, target]."""
    r2 = pd.DataFrame(table.rows(models)).set_index(["source", "target"])["r2_channel"].unstack()
    return r2.loc[models, models].to_numpy()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--name", help="what to call this data set in the table")
    parser.add_argument("--checkout", type=Path, default=Path(), help="folder with params.yaml and data/ of a run")
    parser.add_argument("--dictionary", type=int, help="concepts, in place of the run's")
    parser.add_argument("--steps", type=int, nargs="+", default=[188, 752], help="budgets; 0: the start")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0], help="further ones train with the first's rate"
    )
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="learning rates to choose from")
    parser.add_argument("--rates-at", type=int, help="train with the rate chosen at this budget alone")
    parser.add_argument("--only", nargs="+", choices=list(RECIPES), help="recipes; all when left out")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--table", action="store_true", help="print the table as Markdown")
    return parser.parse_args()


if __name__ == "__main__":
    main()
