"""Which methods find planted concepts, and which of them take for shared what is not.

    python -m benchmarks.planted_methods [--snr 30 3] [--seeds 0 1 2] [--only METHOD ...]

Worlds and recipe of stage `planted`, at equal steps. Every method is read as stage `compare` reads it, from one
model alone, before its first step and after training; `shuffled` is trained or fitted on re-paired images. Rows
are appended to benchmarks/planted_methods.csv as they come, a world at a time; what is there is not run again.
`--table` prints the file as Markdown. docs/planted.md is the reading.
"""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch

from usae.activations.sampling import open_paired
from usae.activations.store.manifests import Manifest
from usae.common.methods import UNIVERSAL, method_module
from usae.common.params import Params, load_params
from usae.common.seeds import seed_of
from usae.common.variant import Variant
from usae.evidence.metrics.summary import HELD_OUT, TRAIN
from usae.evidence.planted.summary import OTHERS
from usae.evidence.planted.trial import CPU, Trial, write_stores
from usae.evidence.planted.world import SHARED
from usae.methods.comparison.members import USAE
from usae.methods.comparison.readings import readings
from usae.methods.fitting.material import Material
from usae.methods.fitting.reading import Reading
from usae.methods.runs.variants import RUN, SHUFFLED, START
from usae.sae.estimator import Concepts
from usae.training.loop.loop import Result, RunOptions, train

TABLE = Path("benchmarks/planted_methods.csv")
TRAINED = (
    USAE, "usae_all", "archetypal", "sparc_local", "sparc", "sparc_even", "crosscoder_unit", "crosscoder",
    "crosscoder_masked", "crosscoder_dedicated", "crosscoder_l1", "batch_top_k", "matryoshka", "sparc_published",
)  # fmt: skip
FITTED = ("matched", "hub", "atlas", "kmeans", "rosetta")  # those that have concepts
KEYS = ["snr", "seed"]
OF_READING = ["method", "form", "run"]
SHARES = {
    "shared: found": ("shared found", "shared"),
    "shared: agreed": ("shared agreed", "shared"),
    "shared: tracked": ("shared tracked", "shared"),
    "of these tracked, universal": ("shared universal", "shared tracked"),
    "others: found": ("others found", "others"),
    "others: tracked": ("others tracked", "others"),
    "of those tracked, universal": ("others universal", "others tracked"),
    "universal codes that follow a shared concept": ("codes shared", "codes universal"),
}  # titles of the printed table, each a column and what it is a share of


@dataclass(frozen=True)
class Bench:
    """A world, and everything that is trained on it: methods and the SAE of each model alone."""

    trial: Trial
    manifests: Mapping[str, Manifest]
    root: Path
    trained: Mapping[tuple[str, str], Result]

    @classmethod
    def set_up(cls, trial: Trial, methods: list[str], root: Path) -> "Bench":
        """Write the activations and train, all side by side."""
        planted = trial.params.planted
        manifests = write_stores(trial.world, planted.train, root)
        variants = {
            (method, run): Variant(planted.k, trial.seed, pairs, method=UNIVERSAL if method == USAE else method)
            for method in methods
            for run, pairs in ((RUN, "matched"), (SHUFFLED, "shuffled"))
        }
        for model in manifests:
            seed = seed_of(trial.seed, "independent SAE", model)
            variants["independent", model] = Variant(planted.k, seed, models=(model,))
        data = open_paired(manifests, root)
        trained = train(variants, manifests, data, trial.recipe, RunOptions(CPU), seed=trial.seed)
        return cls(trial, manifests, root, trained)

    def material(self, run: str) -> Material:
        """What methods without training are fitted on."""
        independent = {model: self.trained["independent", model] for model in self.manifests}
        planted = self.trial.params.planted
        return Material(
            run,
            self.trained[USAE, RUN].sae,
            {model: each.start if run == START else each.sae for model, each in independent.items()},
            {model: manifest.open(TRAIN, self.root) for model, manifest in self.manifests.items()},
            {model: manifest.open(HELD_OUT, self.root) for model, manifest in self.manifests.items()},
            np.arange(planted.train),
            planted.k,
            self.trial.seed,
            CPU,
        )

    def members(self, methods: list[str]) -> Iterator[tuple[str, str, Reading]]:
        """Method, run and reading of all that have concepts, read as in stage `compare`."""
        material = self.material(RUN)
        for (method, run), result in self.trained.items():
            if method in methods:
                yield from ((method, run, reading) for reading in readings(result.sae, material))
                if run == RUN:
                    yield from ((method, START, reading) for reading in readings(result.start, material))
        for method in (each for each in FITTED if each in methods):
            for given in (material, self.material(START), material.repaired()):
                yield from ((method, given.run, reading) for reading in method_module(method).fit(given))


def main() -> None:
    """Run what is asked for and not yet in the table."""
    options = _options()
    torch.set_num_threads(1)
    params = load_params()
    for snr, seed in () if options.table else product(options.snr, options.seeds):
        wanted = [method for method in options.only if not known(snr, seed, method)]
        if wanted:
            append(rows(params, snr, seed, wanted))
    print(markdown(pd.read_csv(TABLE)))


def rows(params: Params, snr: float, seed: int, methods: list[str]) -> pd.DataFrame:
    """One world: a row per method, form and run."""
    world = params.planted.world.model_copy(update={"snr": snr})
    planted = params.planted.model_copy(update={"world": world})
    trial = Trial.draw(params.model_copy(update={"planted": planted}), seed)
    with TemporaryDirectory() as folder:
        bench = Bench.set_up(trial, [USAE, *(each for each in TRAINED[1:] if each in methods)], Path(folder))
        found = [
            {"method": method, "form": reading.form, "run": run, **counts(trial, reading.concepts)}
            for method, run, reading in bench.members(methods)
            if reading.concepts is not None
        ]
    return pd.DataFrame(found).assign(snr=snr, seed=seed)


def counts(trial: Trial, sae: Concepts) -> dict[str, float]:
    """How many planted concepts of each kind were found, agreed and tracked, and what the funnel says of them.

    found: models in which the concept is, as a share of those that have it, summed over concepts.
    """
    codes = trial.encoded(sae)
    concepts, judged = trial.scored("", codes, trial.matches(sae, codes))
    shared = concepts["kind"] == SHARED
    values: dict[str, float] = {}
    for name, members in ((SHARED, concepts[shared]), (OTHERS, concepts[~shared])):
        values |= {f"{name} {quantity}": members[quantity].sum() for quantity in ("found", "agreed", "tracked")}
        values[f"{name} universal"] = (members["tracked"] & members["called_funnel"]).sum()
        values[name] = len(members)
    universal = judged[judged["called_funnel"]]
    return values | {"codes universal": len(universal), "codes shared": universal["shared"].sum()}


def known(snr: float, seed: int, method: str) -> bool:
    """Whether the table has that method in that world."""
    if not TABLE.exists():
        return False
    table = pd.read_csv(TABLE)
    return bool(((table["snr"] == snr) & (table["seed"] == seed) & (table["method"] == method)).any())


def append(frame: pd.DataFrame) -> None:
    """Add rows to the table."""
    frame = frame[[*KEYS, *(column for column in frame if column not in KEYS)]]
    frame.to_csv(TABLE, mode="a", header=not TABLE.exists(), index=False, float_format="%.6g", lineterminator="\n")


def markdown(table: pd.DataFrame) -> str:
    """A row per signal, method and form: per cent over all seeds; in brackets start and re-paired images."""
    totals = table.fillna({"form": ""}).groupby(["snr", *OF_READING], sort=False).sum()
    lines = [_line(["snr", "method", "form", *SHARES]), _line(["---"] * (3 + len(SHARES)))]
    keys = dict.fromkeys((snr, method, form) for snr, method, form, _ in totals.index)
    for key in keys:
        runs = [totals.loc[(*key, run)] if (*key, run) in totals.index else None for run in (RUN, START, SHUFFLED)]
        lines.append(_line([*key, *(_cell(runs, *share) for share in SHARES.values())]))
    return "\n".join(lines)


def _cell(runs: list[Any], part: str, whole: str) -> str:
    """Per cent after training, and of how many; in brackets of the start and on re-paired images."""
    run, *floors = ("-" if of is None or not of[whole] else f"{100 * of[part] / of[whole]:.0f}" for of in runs)
    return f"{run} ({'; '.join(floors)})"


def _line(cells: list[Any]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--snr", nargs="+", type=float, default=[30.0, 3.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=[*TRAINED, *FITTED], default=[*TRAINED, *FITTED])
    parser.add_argument("--table", action="store_true", help="print the table as Markdown")
    return parser.parse_args()


if __name__ == "__main__":
    main()
