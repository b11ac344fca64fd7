"""Where concepts should start, in how many levels, and from how many models: what it changes in the concepts.

    python -m benchmarks.concepts --name demo --dictionary 512 [--checkout FOLDER] [--steps 752] [--rates 0.01]
                                  [--seeds 0] [--batch-images 32] [--only RECIPE ...]

Works on the stores of a run (`dvc repro extract`) with its params. Of every recipe three SAEs are trained side by
side: on the training images, and on two disjoint halves of them with other seeds. A concept comes back where it
has a partner in a half's SAE (`usae.evidence.metrics.funnel.comes_back`). One training image in ten is seen by
none of them: recipes are chosen by these, and then read on the held-out ones. With `--same-images` the two others
see all training images too, in an order of their own: what is lost then is not lost to the images. Rows are
appended to benchmarks/concepts.csv; what is there is not run again. `--table` prints it as Markdown.
docs/concepts.md is the reading.
"""

import argparse
import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch

from benchmarks.recipes import BATCH_IMAGES
from usae.activations.sampling import PairedActivations, open_paired
from usae.activations.store import ActivationStore, store_root
from usae.activations.store.manifests import Manifest, load_manifests
from usae.common.numerics.significance import FALSE_DISCOVERY_RATE
from usae.common.params import PARAMS_FILE, Params, load_params
from usae.common.seeds import seed_of
from usae.common.types import Array
from usae.common.variant import Variant
from usae.evidence.controls.halves import halves
from usae.evidence.metrics.contrast.measured import HeldOut
from usae.evidence.metrics.contrast.stability import HeldOutCodes, matched_concepts
from usae.evidence.metrics.funnel import Thresholds, comes_back, common_steps, passed
from usae.images.pixels.index import ImageIndex
from usae.sae.universal import UniversalSAE
from usae.training.loop.loop import Result, RunOptions, train

TABLE = Path("benchmarks/concepts.csv")
KEYS = ["data", "dictionary", "steps", "recipe", "learning_rate", "seed", "images"]
CHOICE = 10  # one training image in so many is kept for the choice of the recipe
PER_CODE = 4  # coarse concepts for each code of a token: then one in eight of them has a code
CPU = torch.device("cpu")
ONE_LEVEL = {"levels": None, "aux": "none", "dictionary_rows": "free"}
TOKENS = {**ONE_LEVEL, "init": "paired", "sources": "one"}
CLUSTERS = {**ONE_LEVEL, "init": "clusters", "sources": "each"}
LEVELS = {**CLUSTERS, "levels": "coarse", "coarse_rate": 0.05}
ARCHETYPES = {"dictionary_rows": "archetypes"}
RECIPES: dict[str, dict[str, Any]] = {
    "tokens": TOKENS,
    "tokens, each model a source": {**TOKENS, "sources": "each"},
    "tokens, all models sources": {**TOKENS, "sources": "all"},
    "clusters": {**CLUSTERS, "sources": "one"},
    "clusters, each model a source": CLUSTERS,
    "levels": LEVELS,
    "levels, coarse as fast as fine": {**LEVELS, "coarse_rate": 1.0},
    "levels, coarse slower": {**LEVELS, "coarse_rate": 0.01},
    "levels, coarse where it starts": {**LEVELS, "coarse_rate": 0.0},
    "levels, from tokens": {**LEVELS, "init": "paired"},
    "tokens, archetypes": {**TOKENS, "sources": "each", **ARCHETYPES},
    "clusters, archetypes": {**CLUSTERS, **ARCHETYPES},
    "levels, archetypes": {**LEVELS, "coarse_rate": 0.01, **ARCHETYPES},
    "coarse alone": {**CLUSTERS, "dictionary": "coarse"},
    "coarse alone, from tokens": {**TOKENS, "sources": "each", "dictionary": "coarse"},
}


@dataclass(frozen=True)
class Part:
    """Some images of a store, as the measures ask for them. members: increasing."""

    store: ActivationStore
    members: Array

    @property
    def images(self) -> int:
        """How many."""
        return len(self.members)

    @property
    def chunk_images(self) -> int:
        """How many at once."""
        return self.store.chunk_images

    def take(self, images: Array) -> Array:
        """Of numbers among these, as they are stored."""
        return np.asarray(self.store.take(self.members[np.asarray(images)]))


@dataclass(frozen=True)
class Material:
    """What a run gives. seen: training images. parts: their halves. scored: images to score on, by name."""

    params: Params
    manifests: Mapping[str, Manifest]
    seen: PairedActivations
    parts: tuple[Array, Array]
    scored: Mapping[str, Mapping[str, ActivationStore]]

    @classmethod
    def opened(cls, checkout: Path, same_images: bool, sizes: Mapping[str, int]) -> "Material":
        """The stores of the run in `checkout`; `same_images`: both parts are all of them. sizes: in place of the
        run's.
        """
        params = load_params(checkout / PARAMS_FILE)
        params = params.model_copy(update={"train": params.train.model_copy(update=dict(sizes))})
        manifests = load_manifests(checkout / "data/manifests", params.models)
        root = checkout / store_root(params.runtime.store)
        data = open_paired(manifests, root)
        chosen_by = np.arange(data.images) % CHOICE == CHOICE - 1
        classes = ImageIndex.load(checkout / "data/images/train.parquet").frame["label"]
        own = classes[~chosen_by].reset_index(drop=True)
        parts = (np.arange(len(own)),) * 2 if same_images else halves(own, params.seed)
        choice = {model: Part(store, np.flatnonzero(chosen_by)) for model, store in data.stores.items()}
        held_out = {model: manifest.open("val", root) for model, manifest in manifests.items()}
        scored = {"choice": cast(Mapping[str, ActivationStore], choice), "held out": held_out}
        return cls(params, manifests, data.part(np.flatnonzero(~chosen_by)), parts, scored)


def main() -> None:
    """Run what is asked for and not yet in the table."""
    options = _options()
    if options.table:
        print(markdown(so_far()))
        return
    torch.set_num_threads(options.threads)
    sizes = {} if options.dictionary is None else {"dictionary": options.dictionary}
    sizes |= {"batch_images": options.batch_images}
    material = Material.opened(options.checkout, options.same_images, sizes)
    data = f"{options.name}, same images" if options.same_images else options.name
    data += "" if options.batch_images == BATCH_IMAGES else f", batches of {options.batch_images}"
    concepts = material.params.train.dictionary
    for steps, name, rate, seed in product(options.steps, options.only or RECIPES, options.rates, options.seeds):
        key = dict(zip(KEYS, (data, concepts, steps, name, rate, seed), strict=False))
        if not (so_far()[list(key)] == list(key.values())).all(axis=1).any():
            append([{**key, **row} for row in results(material, name, steps, rate, seed)])


def results(material: Material, name: str, steps: int, rate: float, seed: int) -> list[dict[str, Any]]:
    """Rows of one recipe: on the images kept for the choice and on the held-out ones, of the start too."""
    params = material.params
    changes = sized(RECIPES[name], params) | {"learning_rate": rate}
    variants = {"run": Variant(params.k, seed)} | {
        f"half-{half}": Variant(params.k, seed_of(seed, "half", half), half=half) for half in range(2)
    }
    began = time.process_time()
    trained = train(
        variants,
        material.manifests,
        material.seen,
        params.train.model_copy(update=changes),
        RunOptions(CPU),
        seed=seed,
        steps=steps,
        halves=material.parts,
    )
    seconds = (time.process_time() - began) / len(variants)
    return [
        {"images": images, "cpu_seconds": seconds, **scores(material, trained, images, seed)}
        for images in material.scored
    ]


def scores(material: Material, trained: Mapping[str, Result], images: str, seed: int) -> dict[str, float]:
    """What is asked of the concepts, on the images of that name; of the coarse level alone, and of the start."""
    stores, params = material.scored[images], material.params.measure
    sae = cast(UniversalSAE, trained["run"].sae)
    coarse = sae.levels.ends[0]
    measured = HeldOut(sae, stores, params, seed, CPU).measured()
    evidence = measured.evidence.sort_values("concept_id")
    thresholds = Thresholds(params.agreement)
    shared = passed(common_steps(evidence, len(sae.models), None, thresholds))
    back = {start: found_again(material, trained, images, start) for start in (False, True)}
    both, agreement = back[False].all(axis=0), evidence["cofire_proportion_min"].to_numpy(float)
    alone = HeldOut(first_level(sae), stores, params.model_copy(update={"permutations": 1}), seed, CPU).measured()
    return {
        **r2(measured.reconstruction, ""),
        **r2(alone.reconstruction, "_coarse"),
        "concepts": sae.concepts,
        "in_all": int((evidence["models_alive"] == len(sae.models)).sum()),
        "significant": int((evidence["q"] <= FALSE_DISCOVERY_RATE).sum()),
        "shared": int(shared.sum()),
        "back": back[False].mean(),
        "back_start": back[True].mean(),
        "coarse": coarse,
        "back_coarse": back[False][:, :coarse].mean(),
        "back_coarse_start": back[True][:, :coarse].mean(),
        "shared_and_back": int((shared & both).sum()),
        "agreement": float(np.nanmedian(agreement)),
        "agreement_back": float(np.median(agreement[shared & both])) if (shared & both).any() else np.nan,
    }


def found_again(material: Material, trained: Mapping[str, Result], images: str, start: bool) -> Array:
    """(halves, c) bool: which concepts come back in the SAE of each half; `start`: all before their first step."""
    stores, threshold = material.scored[images], material.params.measure.threshold
    means = {model: np.array(manifest.channel_mean) for model, manifest in material.manifests.items()}
    saes = {name: result.start if start else result.sae for name, result in trained.items()}
    codes = {name: HeldOutCodes.of(sae, stores, means, threshold, CPU) for name, sae in saes.items()}
    run, *others = codes.values()
    found = []
    for other in others:
        rows = matched_concepts(run, other, threshold).sort_values("concept_id")
        found.append(comes_back(rows["correlation"], rows["correlation_least"], Thresholds(0).matched))
    return np.stack(found)


def first_level(sae: UniversalSAE) -> UniversalSAE:
    """The SAE with a dictionary whose finer concepts add nothing."""
    alone = copy.deepcopy(sae)
    for model in alone.models:
        alone.part(model).dictionary.weight.data[alone.levels.ends[0] :] = 0
    return alone


def r2(table: pd.DataFrame, name: str) -> dict[str, float]:
    """About channel means, within models and across them."""
    own = table["source"] == table["target"]
    values = table["r2_channel"]
    return {f"r2_self{name}": values[own].mean(), f"r2_cross{name}": values[~own].mean()}


def so_far() -> pd.DataFrame:
    """The table, empty before the first row."""
    return pd.read_csv(TABLE) if TABLE.exists() else pd.DataFrame(columns=KEYS)


def append(rows: list[dict[str, Any]]) -> None:
    """Add rows to the table."""
    frame = pd.DataFrame(rows)
    frame = frame[[*KEYS, *(column for column in frame if column not in KEYS)]]
    frame.to_csv(TABLE, mode="a", header=not TABLE.exists(), index=False, float_format="%.4g", lineterminator="\n")


def markdown(rows: pd.DataFrame) -> str:
    """A table for each data set and budget: held-out scores, means over seeds, and what the choice would be by."""
    blocks = []
    for (data, concepts, steps), group in rows.groupby(["data", "dictionary", "steps"], sort=False):
        lines = [_line(*key, own) for key, own in group.groupby(["recipe", "learning_rate"], sort=False)]
        head = list(lines[0])
        table = [head, ["---"] * len(head), *(line.values() for line in lines)]
        title = f"**{data}, {concepts} concepts, {steps} steps**"
        blocks.append(f"{title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in table))
    return "\n\n".join(blocks)


def _line(recipe: str, rate: float, rows: pd.DataFrame) -> dict[str, str]:
    choice, own = (rows[rows["images"] == images].mean(numeric_only=True) for images in ("choice", "held out"))
    return {
        "recipe": recipe,
        "rate": f"{rate:g}",
        "seeds": str(rows["seed"].nunique()),
        "choice: self / cross R²": f"{choice.r2_self:.3f} / {choice.r2_cross:.3f}",
        "self R²": f"{own.r2_self:.3f}",
        "cross R²": f"{own.r2_cross:.3f}",
        "coarse: self / cross": f"{own.r2_self_coarse:.3f} / {own.r2_cross_coarse:.3f}",
        "coarse: back (start)": f"{own.coarse:.0f}: {own.back_coarse:.1%} ({own.back_coarse_start:.1%})",
        "all: back (start)": f"{own.concepts:.0f}: {own.back:.1%} ({own.back_start:.1%})",
        "in all models": f"{own.in_all:.0f}",
        "shared": f"{own.shared:.0f}",
        "shared, back in both": f"{own.shared_and_back:.0f}",
        "their agreement": "" if pd.isna(own.agreement_back) else f"{own.agreement_back:.2f}",
        "CPU s": f"{own.cpu_seconds:.0f}",
    }


def sized(recipe: Mapping[str, Any], params: Params) -> dict[str, Any]:
    """A recipe with the run's own numbers of concepts."""
    coarse = PER_CODE * params.k
    sizes = {"levels": {"coarse": (coarse,)}, "dictionary": {"coarse": coarse}}
    return {key: sizes[key].get(value, value) if key in sizes else value for key, value in recipe.items()}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--name", help="what to call this data set in the table")
    parser.add_argument("--checkout", type=Path, default=Path(), help="folder with params.yaml and data/ of a run")
    parser.add_argument("--dictionary", type=int, help="concepts, in place of the run's")
    parser.add_argument("--steps", type=int, nargs="+", default=[752], help="budgets")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.01], help="peak learning rates")
    parser.add_argument("--batch-images", type=int, default=BATCH_IMAGES, help="images a step")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=list(RECIPES), help="recipes; all when left out")
    parser.add_argument(
        "--same-images", action="store_true", help="the two others see all images, in another order"
    )
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--table", action="store_true", help="print the table as Markdown")
    return parser.parse_args()


if __name__ == "__main__":
    main()
