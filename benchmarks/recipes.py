"""Which recipe is better: switches compared at equal steps, on held-out images, over seeds.

    python -m benchmarks.recipes --name demo [--steps 188 752] [--seeds 0 1 2] [--only RECIPE ...]

Works on the stores of the run in this checkout (`dvc repro extract` first) with its params. The seeds of a recipe
train side by side. Rows are appended to benchmarks/recipes.csv as they come; what is there is not run again.
`--table` prints the file as Markdown. docs/recipes.md is the reading.
"""

import argparse
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from usae.activations.sampling import open_paired
from usae.activations.store import ActivationStore, store_root
from usae.activations.store.manifests import Manifest, load_manifests
from usae.common.params import Params, load_params
from usae.common.variant import Variant
from usae.evidence.codes.encoding import encoded
from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.firing.counts import FiringCounts, cofire_proportion, firing_entropy, lift
from usae.evidence.metrics.reconstruction.r2 import Reconstruction
from usae.sae.sparse import SparseCodes
from usae.sae.universal import UniversalSAE
from usae.training.loop.loop import RunOptions, train

TABLE = Path("benchmarks/recipes.csv")
KEYS = ["data", "recipe", "steps", "seed"]
CPU = torch.device("cpu")
OFFICIAL = {"init": "random", "update": "source", "aux": "multi_topk", "aux_weight": 0.1, "schedule": "per_model"}
BASE = {
    "standardize": "scalar",
    "gain": "unit",
    "loss": "l1",
    "init": "paired",
    "update": "all",
    "aux": "none",
    "schedule": "global",
    "precision": "float32",
    "shuffle_tokens": False,
}
DEFAULT = {"loss": "l2", "gain": "width", "shuffle_tokens": True}
RECIPES: dict[str, dict[str, Any]] = {
    "official": OFFICIAL,
    "official, paired start": {**OFFICIAL, "init": "paired"},
    "official, no auxiliary term": {**OFFICIAL, "aux": "none"},
    "official, global schedule": {**OFFICIAL, "schedule": "global"},
    "official, all decoders": {**OFFICIAL, "update": "all"},
    "base: paired, all decoders, global, no auxiliary term": {},
    "base, random start": {"init": "random"},
    "base, only the source's decoder": {"update": "source"},
    "base, multi_topk": {"aux": "multi_topk", "aux_weight": 0.1},
    "base, dead": {"aux": "dead", "aux_weight": 0.03125, "dead_after": 20},
    "base, l2": {"loss": "l2"},
    "base, frobenius": {"loss": "frobenius"},
    "base, channels standardised": {"standardize": "channel"},
    "base, gain by width": {"gain": "width"},
    "base, tokens shuffled": {"shuffle_tokens": True},
    "base, l2, channels standardised": {"loss": "l2", "standardize": "channel"},
    "base, l2, tokens shuffled": {"loss": "l2", "shuffle_tokens": True},
    "base, l2, gain by width": {"loss": "l2", "gain": "width"},
    "default: base, l2, gain by width, tokens shuffled": DEFAULT,
    "default, mixed precision": {**DEFAULT, "precision": "mixed"},
}


def main() -> None:
    """Run what is asked for and not yet in the table."""
    options = _options()
    if options.table:
        print(markdown(pd.read_csv(TABLE)))
        return
    torch.set_num_threads(options.threads)
    params = load_params()
    manifests = load_manifests(Path("data/manifests"), params.models)
    root = store_root(params.runtime.store)
    for name, steps in product(options.only or RECIPES, options.steps):
        seeds = [seed for seed in options.seeds if not known(options.name, name, steps, seed)]
        if seeds:
            rows = compared(params, manifests, root, name, steps, seeds)
            append(pd.DataFrame(rows).assign(data=options.name))


def compared(
    params: Params, manifests: dict[str, Manifest], root: Path, name: str, steps: int, seeds: list[int]
) -> list[dict[str, Any]]:
    """One recipe at one budget: a row a seed."""
    recipe = params.train.model_copy(update={**BASE, **RECIPES[name]})
    variants = {str(seed): Variant(params.k, seed) for seed in seeds}
    data = open_paired(manifests, root)
    trained = train(variants, manifests, data, recipe, RunOptions(CPU), seed=params.seed, steps=steps)
    stores = {model: manifest.open("val", root) for model, manifest in manifests.items()}
    return [
        {"recipe": name, "steps": steps, "seed": int(seed), **scores(one.sae, stores, params.measure.threshold)}
        for seed, one in trained.items()
    ]


def scores(sae: UniversalSAE, stores: dict[str, ActivationStore], threshold: float) -> dict[str, float]:
    """Held-out R2 (channel means), co-firing and its lift over chance, entropy, dead concepts."""
    table, counts = evaluated(sae, stores, threshold)
    matrix = matrix_of(table, list(stores))
    own = np.eye(len(matrix), dtype=bool)
    fires, cofires = counts.fires, counts.cofires
    joint = cofires > 0
    return {
        "r2_self": matrix[own].mean(),
        "r2_cross": matrix[~own].mean(),
        "r2_cross_least": matrix[~own].min(),
        "cofire_proportion": float(np.nanmean(cofire_proportion(cofires, fires))),
        "lift_median": float(np.nanmedian(lift(cofires, fires, counts.tokens))),
        "joint_lift": float(cofires.sum() / (fires.prod(0) / float(counts.tokens) ** (len(stores) - 1)).sum()),
        "concepts_joint": int(joint.sum()),
        "entropy_above_95": float((firing_entropy(fires) > 0.95).mean()),
        "dead": int((fires.sum(0) == 0).sum()),
    }


@torch.inference_mode()
def evaluated(
    sae: UniversalSAE, stores: dict[str, ActivationStore], threshold: float
) -> tuple[Reconstruction, FiringCounts]:
    """Sums over the held-out images."""
    table, counts = Reconstruction("usae", "val"), FiringCounts(len(stores), sae.concepts, threshold)
    images, block = next(iter(stores.values())).images, 64
    for start in range(0, images, block):
        span = range(start, min(start + block, images))
        raw = {model: np.array(store.take(span)) for model, store in stores.items()}  # (b, t, d)
        codes = {model: encoded(sae, model, rows, CPU) for model, rows in raw.items()}
        counts.update([CodeChunk(np.arange(len(span)), *pair) for pair in codes.values()])
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


def known(data: str, recipe: str, steps: int, seed: int) -> bool:
    """Whether the table has that run."""
    if not TABLE.exists():
        return False
    table = pd.read_csv(TABLE)
    return bool(((table[KEYS] == [data, recipe, steps, seed]).all(axis=1)).any())


def append(rows: pd.DataFrame) -> None:
    """Add rows to the table."""
    rows = rows[[*KEYS, *(column for column in rows if column not in KEYS)]]
    rows.to_csv(TABLE, mode="a", header=not TABLE.exists(), index=False, float_format="%.5g", lineterminator="\n")


def markdown(table: pd.DataFrame) -> str:
    """Means over seeds, and how far the seeds lie apart, per data set and budget."""
    numbers = ["r2_self", "r2_cross", "cofire_proportion", "lift_median", "joint_lift", "dead"]
    grouped = table.groupby(["data", "steps", "recipe"], sort=False)
    means, spread = grouped[numbers].mean(), grouped[numbers[:2]].agg(np.ptp)
    lines = []
    for (data, steps), group in means.groupby(level=["data", "steps"], sort=False):
        lines += [f"\n{data}, {steps} steps\n", "| recipe | " + " | ".join(numbers) + " |", "|---" * 7 + "|"]
        for recipe, row in group.droplevel(["data", "steps"]).sort_values("r2_cross", ascending=False).iterrows():
            apart = spread.loc[(data, steps, recipe)]  # type: ignore[index]
            cells = [f"{row[n]:.3f} (±{apart[n] / 2:.3f})" for n in numbers[:2]]
            lines.append(f"| {recipe} | " + " | ".join(cells + [f"{row[n]:.3g}" for n in numbers[2:]]) + " |")
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--name", help="what to call this data set in the table")
    parser.add_argument("--steps", type=int, nargs="+", default=[188, 752])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=list(RECIPES), help="recipes; all when left out")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--table", action="store_true", help="print the table as Markdown")
    return parser.parse_args()


if __name__ == "__main__":
    main()
