"""What the funnel calls shared when one model's held-out images are re-paired alone: nothing is shared by all
then.

    python -m benchmarks.repaired [--times 5]

Works on the finished run in this directory (codes of the held-out images, tables of stage `contrast`), whose codes
have to fit in memory. Prints how many concepts pass each step that controls are asked, for the true pairs, for
each re-pairing of one model alone, and of all models. The bar of untrained networks is the run's. SAEs that were
trained with one model re-paired are in table `controls` (shuffled-SLUG).
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from usae.common.params import Params, load_params
from usae.common.tables import read_table
from usae.evidence.codes.store import CodeChunk, open_codes
from usae.evidence.metrics.firing.counts import FiringCounts
from usae.evidence.metrics.firing.evidence import evidence
from usae.evidence.metrics.firing.nulls import IMAGES, CofireNulls
from usae.evidence.metrics.funnel import Thresholds, common_steps, control_bar, counts


def main() -> None:
    """A line for each pairing: the counts of all steps; of the re-paired ones, the mean and the largest of the
    last.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--times", type=int, default=5, help="re-pairings of each model alone, and of all")
    times, params = parser.parse_args().times, load_params()
    stores = open_codes(Path("data/codes/val"), params.models)
    codes = {model: joined(list(store)) for model, store in stores.items()}
    concepts = next(iter(stores.values())).concepts
    asked = Thresholds(params.measure.agreement)
    bar = control_bar(read_table(Path("reports/control_concepts.parquet")), len(codes), asked.bar)
    print("true pairs", passed(codes, concepts, bar, params, asked))
    for moved in [*([model] for model in codes), list(codes)]:
        last = []
        for number in range(1, times + 1):
            pairs = paired_anew(codes, moved, np.random.default_rng([params.seed, number]))
            left = passed(pairs, concepts, bar, params, asked)
            last.append(list(left.values())[-1])
            print(f"{'+'.join(moved)} re-paired, {number}", left)
        print(f"{'+'.join(moved)} re-paired: {np.mean(last):.1f} pass every step, {max(last)} at most")


def joined(chunks: list[CodeChunk]) -> CodeChunk:
    """All images of a model."""
    return CodeChunk(
        *(np.concatenate([getattr(c, name) for c in chunks]) for name in ("images", "indices", "values"))
    )


def paired_anew(
    codes: Mapping[str, CodeChunk], moved: Sequence[str], rng: np.random.Generator
) -> dict[str, CodeChunk]:
    """The images of the models `moved`, each in an order of its own; those of the others stay."""
    images = next(iter(codes.values())).images
    orders = {model: rng.permutation(len(images)) if model in moved else slice(None) for model in codes}
    return {m: CodeChunk(images, c.indices[orders[m]], c.values[orders[m]]) for m, c in codes.items()}


def passed(
    codes: Mapping[str, CodeChunk], concepts: int, bar: float, params: Params, asked: Thresholds
) -> dict[str, int]:
    """Concepts left after each step."""
    chunks, models, measure = list(codes.values()), len(codes), params.measure
    everyone, sizes = tuple(range(models)), (models, concepts, measure.threshold)
    firing = FiringCounts(*sizes)
    images = len(chunks[0].images)
    nulls = CofireNulls(*sizes, measure.permutations, params.seed, images, only=[(IMAGES, everyone)])
    for counted in (firing, nulls):
        counted.update(chunks)
    nulls.finish()
    rows = evidence(firing, nulls.counts[IMAGES, everyone])
    table = counts(common_steps(rows, models, bar, asked))
    return dict(zip(table["step"], table["concepts"].astype(int), strict=True))


if __name__ == "__main__":
    main()
